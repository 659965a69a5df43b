"use strict";
// Light or dark: the reader's choice, or else the system's. Charts have no style sheet and are told to draw again.
const Theme = (() => {
  const listeners = [];
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tell = () => { for (const listener of listeners) listener(); };
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    tell();
  });
  dark.addEventListener("change", tell);
  return { listen: (listener) => listeners.push(listener) };
})();
