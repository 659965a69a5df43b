"use strict";
// Numbers for reading, as the rest of the report writes them.
const Format = (() => {
  const sizes = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
  const times = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
  const fixed = (value, places) => value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });

  function scale(kind, values) {
    if (kind !== "bytes" && kind !== "seconds") return { divisor: 1, unit: "" };
    const steps = kind === "bytes" ? sizes : times;
    const largest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    const [divisor, unit] = steps.find(([step]) => largest >= step) ?? steps.at(-1);
    return { divisor, unit };
  }

  function number(value, digits = 4) {
    if (Number.isInteger(value)) return fixed(value, 0);
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e9) return value.toExponential(2);
    return fixed(value, Math.max(0, digits - 1 - Math.floor(Math.log10(size))));
  }

  const time = (seconds) => {
    const { divisor, unit } = scale("seconds", [seconds]);
    return `${number(seconds / divisor)} ${unit}`;
  };
  const size = (bytes) => {
    const { divisor, unit } = scale("bytes", [bytes]);
    return divisor === 1 ? `${number(bytes)} B` : `${number(bytes / divisor)} ${unit}`;
  };
  const kindOf = (name) =>
    name.endsWith("_bytes") ? "bytes" : name.endsWith("_s") && !name.endsWith("_per_s") ? "seconds" : "number";

  // The browser's own escaping, for plotly takes some tags in labels.
  function markup(text) {
    const element = document.createElement("span");
    element.textContent = text;
    return element.innerHTML;
  }

  // A theme's colour as plotly can read it.
  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  const seeThrough = (shade, opacity) => shade.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);

  return { scale, number, fixed, time, size, kindOf, markup, colour, seeThrough };
})();
