"use strict";
// The table of all cases: Tabulator's, with filters, order and columns kept in the URL's hash.
const Explorer = (() => {
  const form = document.getElementById("filters");
  const facetNames = { device: "Device", scenario: "Scenario", model: "Model", quantization: "Quantization", task: "Task", status: "Status",
    gradient_checkpointing: "Checkpointing", adapter_state: "Adapter", origin: "Made", times: "Times" };
  let rows, columns, facets, table;
  let shown = [];
  let named = null;
  const write = (changes) => State.write("cases", changes);

  // ---- cells

  function cellText(column) {
    const values = rows.map((row) => row[column.name]);
    const { divisor, unit } = column.kind === "bytes" && column.largest >= 2 ** 20
      ? { divisor: 2 ** 20, unit: "MiB" } : Format.scale(column.kind, values);
    const whole = values.every((value) => value === null || Number.isInteger(value));
    // All rows of a column have the same places, so that digits stand below digits.
    const smallest = values.reduce((least, value) => (value ? Math.min(least, Math.abs(value) / divisor) : least), Infinity);
    const places = (whole && divisor === 1) || smallest === Infinity ? 0
      : Math.min(6, Math.max(column.kind === "bytes" ? 1 : 0, 2 - Math.floor(Math.log10(smallest))));
    const text = (value) => {
      if (value === null || value === undefined) return null;
      if (column.kind === "flag") return value ? "yes" : "no";
      return typeof value === "number" ? Format.fixed(value / divisor, Math.min(places, 3)) : String(value);
    };
    return { text, unit };
  }

  function definition(column) {
    const { text, unit } = cellText(column);
    const numeric = column.kind !== "text" && column.kind !== "flag";
    const interval = column.name.replace(/median_s$/, "");
    const timed = column.name.endsWith("_median_s");
    return {
      field: column.name,
      title: column.label,
      titleFormatter: () => {
        const title = document.createElement("span");
        title.textContent = column.label;
        title.title = column.description;
        if (unit) {
          const said = document.createElement("span");
          said.className = "unit";
          said.textContent = unit;
          title.append(said);
        }
        return title;
      },
      hozAlign: numeric ? "right" : "left",
      headerHozAlign: numeric ? "right" : "left",
      sorter: numeric ? "number" : "alphanum",
      sorterParams: { alignEmptyValues: "bottom" },
      headerSortTristate: true,
      minWidth: column.name === "device" ? 104 : numeric ? (timed ? 132 : Math.max(94, 44 + column.label.length * 8)) : Math.max(88, 44 + column.label.length * 8),
      formatter: (cell) => {
        const value = text(cell.getValue());
        const element = document.createElement("span");
        if (value === null) {
          element.className = "absent";
          element.textContent = "–";
          return element;
        }
        element.textContent = value;
        if (column.name === "status") element.className = `status ${value}`;
        const row = cell.getData();
        if (timed) addSpread(element, row, cell.getValue(), row[`${interval}ci95_low_s`], row[`${interval}ci95_high_s`], row[`${interval}unstable`], text);
        return element;
      },
    };
  }

  // "29.1 ±2.0", the wider half of the 95% interval, "29.1 ±<0.1" where it has no digit there; a tilde marks times that cannot
  // be trusted.
  function addSpread(element, row, median, low, high, unstable, text) {
    if (low === null || low === undefined) return;
    const half = Math.max(median - low, high - median);
    const spread = document.createElement("span");
    spread.className = "spread";
    const said = text(half);
    spread.textContent = half > 0 && !/[1-9]/.test(said) ? ` ±<${said.replace(/0$/, "1")}` : ` ±${said}`;
    if (unstable) element.prepend("~");
    element.append(spread);
  }

  // "rank=8, targets=q_proj #2" of "scenario[rank=8,targets=q_proj] #2".
  function axesOf(row) {
    const { scenario } = row;
    const [, name, round] = row.name.match(/^(.*?)( #\d+)?$/s);
    const axes = name.startsWith(`${scenario}[`) && name.endsWith("]") ? name.slice(scenario.length + 1, -1) : name;
    return axes.replaceAll(/,(?=[^,=]+=)/g, ", ") + (round ?? "");
  }

  const caseColumn = () => ({
    field: "name",
    title: "case",
    sorter: "alphanum",
    headerSortTristate: true,
    minWidth: matchMedia("(max-width: 40rem)").matches ? 190 : 290,
    widthGrow: 3,
    frozen: !matchMedia("(max-width: 40rem)").matches,
    formatter: (cell) => {
      const row = cell.getData();
      const button = document.createElement("button");
      button.type = "button";
      const axes = document.createElement("span");
      axes.textContent = axesOf(row);
      const under = document.createElement("span");
      under.className = "under";
      under.textContent = row.scenario;
      if (row.names.length > 1) {
        const others = row.names.filter((one) => one.scenario !== row.scenario);
        under.textContent += `, also ${others.length === 1 ? others[0].scenario : `${others.length} others`}`;
        under.title = others.map((one) => one.name).join("\n");
      }
      button.append(axes, under);
      if (row.status !== "ok") {
        const status = document.createElement("span");
        status.className = `status ${row.status}`;
        status.textContent = ` ${row.status}`;
        under.append(status);
      }
      return button;
    },
  });

  const chosen = () => {
    const names = State.get("columns");
    return names === null ? columns.filter((column) => column.shown) : columns.filter((column) => names.split(",").includes(column.name));
  };
  const definitions = () => [caseColumn(), ...chosen().map(definition)];

  // ---- filters

  function matches() {
    const words = (State.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const claim = State.get("claim");
    const keys = claim === null ? null : new Set(Data.settings.claims[claim] ?? []);
    const wanted = facets.map((name) => [name, State.get(name)]).filter(([, value]) => value !== null);
    return (row) =>
      words.every((word) => row.text.includes(word)) &&
      (keys === null || keys.has(row.id.split("~")[0])) &&
      wanted.every(([name, value]) => (name === "scenario" ? row.names.some((one) => one.scenario === value) : String(row[name]) === value));
  }

  function buildFacets() {
    const place = document.getElementById("facets");
    for (const name of facets) {
      const counts = new Map();
      for (const row of rows) {
        const values = name === "scenario" ? new Set(row.names.map((one) => one.scenario)) : [row[name]];
        for (const value of values) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
      }
      if (counts.size < 2) continue;
      const label = document.createElement("label");
      const select = document.createElement("select");
      select.name = name;
      select.append(new Option("all", ""));
      for (const [value, count] of [...counts].sort(([a], [b]) => String(a).localeCompare(String(b), "en", { numeric: true }))) {
        select.append(new Option(`${value} (${count})`, String(value)));
      }
      label.append(`${facetNames[name]} `, select);
      place.append(label);
    }
  }

  function showFilters() {
    for (const field of form.elements) {
      if (!field.name) continue;
      field.value = State.get(field.name) ?? "";
      if (field.tagName === "SELECT") field.toggleAttribute("data-set", field.value !== "");
    }
  }

  function showCount() {
    const claim = State.get("claim");
    const text = shown.length === rows.length ? `${Format.number(rows.length)} records` : `${Format.number(shown.length)} of ${Format.number(rows.length)} records`;
    document.getElementById("count").textContent = claim === null ? text : `${text}: evidence of ${claim}`;
    const filtered = claim !== null || [...form.elements].some((field) => field.name && field.value);
    document.getElementById("clear").hidden = !filtered;
  }

  // A case that several scenarios share has the name and the place that it has in the one that is chosen.
  function nameRows() {
    named = State.get("scenario");
    const places = new Map();
    for (const row of rows) {
      const { scenario, name, place } = row.names.find((one) => one.scenario === named) ?? row.names[0];
      places.set(row, place);
      Object.assign(row, { scenario, name });
      if (row.names.length > 1) row.also = row.names.filter((one) => one.scenario !== scenario).map((one) => one.name).join("; ");
    }
    table.replaceData([...rows].sort((one, other) => places.get(one) - places.get(other)));
  }

  function filter() {
    const test = matches();
    shown = rows.filter(test);
    if (State.get("scenario") !== named) nameRows();
    table.setFilter(test);
    showFilters();
    showCount();
  }

  // ---- order, columns

  function sort() {
    const [field, dir] = (State.get("sort") ?? "").split(":");
    if (field && table.getColumn(field)) table.setSort(field, dir === "desc" ? "desc" : "asc");
    else table.clearSort();
  }

  function buildChooser() {
    const place = document.querySelector("#columns .choices");
    for (const column of columns.filter((one) => one.offered)) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: column.name });
      const said = document.createElement("span");
      said.textContent = column.label;
      label.title = column.description;
      label.append(box, said);
      place.append(label);
    }
    place.addEventListener("change", () => {
      const names = [...place.querySelectorAll("input:checked")].map((box) => box.value);
      const usual = columns.filter((column) => column.shown).map((column) => column.name);
      write({ columns: names.join() === usual.join() ? null : names.join(",") || "none" });
      showColumns();
    });
  }

  function showColumns() {
    const names = new Set(chosen().map((column) => column.name));
    for (const box of document.querySelectorAll("#columns input")) box.checked = names.has(box.value);
    table.setColumns(definitions());
    reachByKeyboard();
    sort();
  }

  // Tabulator's headers answer to the mouse alone.
  function reachByKeyboard() {
    for (const header of document.querySelectorAll("#table .tabulator-col.tabulator-sortable")) {
      if (header.tabIndex === 0) continue;
      header.tabIndex = 0;
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        header.click();
      });
    }
  }

  // ---- a record

  function openRecord() {
    const id = State.get("record");
    if (id === null) {
      if (RecordView.isOpen) RecordView.close();
      return;
    }
    const row = rows.find((one) => one.id === id) ?? rows.find((one) => one.id.startsWith(id));
    if (row) RecordView.open(row, () => write({ record: null }));
  }

  // ---- download

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function csv() {
    const quoted = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const names = ["name", "id", ...columns.map((column) => column.name), "error"];
    return [names, ...ordered().map((row) => names.map((name) => row[name]))].map((line) => line.map(quoted).join(",") + "\n").join("");
  }

  const ordered = () => table.getRows("active").map((row) => row.getData());

  async function download(kind) {
    if (kind === "csv") return save("lorabench-cases.csv", "text/csv", csv());
    const records = (await Promise.all(ordered().map(Data.record))).filter((record) => record !== null);
    // With their environments, so that it is a results file again.
    const environments = [...new Set(records.map((record) => record.environment))].map((id) => Data.settings.environments[id]);
    const lines = [...environments, ...records].map((line) => JSON.stringify(line) + "\n");
    return save("lorabench-records.jsonl", "application/jsonl", lines.join(""));
  }

  function apply() {
    showColumns();
    filter();
    openRecord();
  }

  function start(data) {
    ({ rows, columns, facets } = data);
    for (const column of columns) column.largest = rows.reduce((most, row) => Math.max(most, typeof row[column.name] === "number" ? row[column.name] : 0), 0);
    buildFacets();
    buildChooser();
    table = new Tabulator("#table", {
      data: rows,
      index: "id",
      columns: definitions(),
      layout: "fitColumns",
      maxHeight: "70vh",
      placeholder: "No case fits these filters.",
      columnHeaderSortMulti: false,
    });
    table.on("tableBuilt", () => {
      apply();
      State.listen(apply);
      table.on("dataSorted", (sorters) => {
        const [sorter] = sorters;
        const value = sorter ? `${sorter.field}:${sorter.dir}` : null;
        if (value !== State.get("sort")) write({ sort: value });
      });
    });
    table.on("rowClick", (event, row) => {
      write({ record: row.getData().id });
      openRecord();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      write({ [event.target.name]: event.target.value });
      filter();
    });
    document.getElementById("clear").addEventListener("click", () => {
      write({ q: null, claim: null, ...Object.fromEntries(facets.map((name) => [name, null])) });
      filter();
    });
    document.getElementById("download").addEventListener("click", (event) => {
      if (event.target.dataset.download) download(event.target.dataset.download);
    });
  }

  return { start };
})();
