"use strict";
// What the page holds: rows of the table at once, whole records when they are asked for.
const Data = (() => {
  const text = (id) => document.getElementById(id).textContent;

  const settings = JSON.parse(text("settings"));
  const chunks = JSON.parse(text("chunks"));
  const places = JSON.parse(text("places"));
  const unpacked = new Map();

  // One object a row, with its columns' values under their names.
  async function load() {
    const packed = await unpack(text("rows"));
    const names = Object.keys(packed.values);
    const rows = packed.id.map((id, index) => {
      const row = { id, index, name: packed.name[index], label: packed.label[index], where: packed.where[index], error: packed.error[index], place: places[index] };
      for (const name of names) row[name] = packed.values[name][index];
      row.text = [row.name, row.also, id, row.device, row.error].join("\n").toLowerCase();
      return row;
    });
    const all = listed(rows, packed.also);
    for (const row of rows) row.names = [];
    all.forEach(({ index, scenario, name }, place) => rows[index].names.push({ scenario, name, place }));
    // The scenario that it ran for first.
    for (const row of rows) row.names.sort((one, other) => (other.scenario === row.scenario) - (one.scenario === row.scenario));
    return { rows, listed: all, columns: packed.columns, facets: packed.facets };
  }

  // The rows in reading order, those that several scenarios share under each of them.
  function listed(rows, also) {
    const before = new Map();
    for (const other of also) {
      if (!before.has(other.before)) before.set(other.before, []);
      before.get(other.before).push({ ...rows[other.row], scenario: other.scenario, name: other.name, label: other.label });
    }
    return [...rows.flatMap((row) => [...(before.get(row.index) ?? []), row]), ...(before.get(rows.length) ?? [])];
  }

  // The whole record of a row; null where it did not fit the page.
  async function record(row) {
    if (!row.place) return null;
    const [chunk, position] = row.place;
    if (!unpacked.has(chunk)) unpacked.set(chunk, unpack(chunks[chunk]));
    return (await unpacked.get(chunk))[position];
  }

  return { load, record, settings };
})();
