"use strict";
// The view in the URL's hash: "#cases?scenario=rank&sort=memory_static_bytes:desc". What stands before the "?" is where to look.
const State = (() => {
  const listeners = [];
  let state = new URLSearchParams();
  let written = null;

  const parse = () => {
    const [section, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
    return { section, state: new URLSearchParams(query) };
  };

  function read() {
    const found = parse();
    if (location.hash === written) return;
    // A plain link inside the page leaves the view as it is.
    if (!location.hash.includes("?")) return;
    state = found.state;
    for (const listener of listeners) listener();
    document.getElementById(found.section)?.scrollIntoView();
  }

  function write(section, changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") state.delete(name);
      else state.set(name, value);
    }
    const query = state.toString();
    written = query ? `#${section}?${query}` : `#${section}`;
    history.replaceState(null, "", written);
  }

  addEventListener("hashchange", read);
  return { get: (name) => state.get(name), write, read, listen: (listener) => listeners.push(listener) };
})();
