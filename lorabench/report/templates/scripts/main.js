"use strict";
(async () => {
  Theme.listen(Charts.redraw);

  // A menu closes when the reader turns elsewhere.
  addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll(".bar details[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".bar details[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  // A printed page shows what a reader could have opened.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll(".card details:not([open])")) {
      details.open = true;
      details.dataset.printed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const details of document.querySelectorAll("details[data-printed]")) {
      details.open = false;
      delete details.dataset.printed;
    }
  });

  if (typeof DecompressionStream === "undefined") {
    document.getElementById("count").textContent = "This browser cannot unpack the table: use a current one, or open records.csv.";
    return;
  }
  const data = await Data.load();
  Explorer.start(data);
  Charts.start(data);
  State.read();
})();
