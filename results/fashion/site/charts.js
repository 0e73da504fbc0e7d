/* Figures 1 and 5 as charts in place of their pictures. Vega is read when the first of them comes near the screen. */
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shapes = {
    "circle": "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0", "square": "M-5.5-5.5h11v11h-11z", "diamond": "M0-8L6 0 0 8-6 0z",
    "cross": "M-2-7h4v5h5v4h-5v5h-4v-5h-5v-4h5z", "triangle-up": "M0-7L7 6H-7z", "triangle-down": "M0 7L7-6H-7z",
    "triangle-right": "M7 0L-6-7V7z", "triangle-left": "M-7 0L6-7V7z",
  };
  let library;

  function load() {
    library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      document.head.append(Object.assign(script, { src: "vega.js", onload: resolve, onerror: reject }));
    });
    return library;
  }

  /* An element with attributes and content. */
  function make(name, attributes = {}, ...content) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...content);
    return element;
  }

  /* A box or radio button with its word. */
  function choice(attributes, checked, change, ...words) {
    const input = make("input", attributes);
    input.checked = checked;
    input.addEventListener("change", () => change(input.checked));
    return make("label", {}, input, ...words);
  }

  function swatch({ shape, light, dark }) {
    const sign = make("span", { class: "swatch", style: `--light: ${light}; --dark: ${dark}` });
    sign.innerHTML = `<svg viewBox="-9 -9 18 18" aria-hidden="true"><path d="${shapes[shape]}"/></svg>`;
    return sign;
  }

  /* Vega's looks: the page's own colours, light or dark. */
  function looks(families) {
    const style = getComputedStyle(document.documentElement);
    const [ink, line] = ["--ink", "--line"].map(name => style.getPropertyValue(name).trim());
    return {
      background: "transparent", font: getComputedStyle(document.body).fontFamily, view: { stroke: null },
      axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12,
        titleFontSize: 12, titleFontWeight: 400 },
      range: { category: families.map(family => dark.matches ? family.dark : family.light) },
    };
  }

  /* Vega-Lite 6.4 asks the cell around the nearest point for what the point within it holds. */
  function mended(spec) {
    for (const { name, encode } of spec.marks) {
      if (name !== "points_voronoi") continue;
      const { tooltip } = encode.update;
      tooltip.signal = tooltip.signal.replace(/(?<!\.)datum\[/g, "datum.datum[");
    }
    return spec;
  }

  function chart(root) {
    const { rows, families, panels } = JSON.parse(document.getElementById(root.dataset.chart).textContent);
    const shown = new Set(families.map(family => family.name));
    const plots = panels.map(() => make("div", { class: "plot" }));
    let scale = "log", views = [], drawn = Promise.resolve(), waiting;

    /* A panel with the rows and the axis that are asked for. */
    function specification({ spec }) {
      const asked = structuredClone(spec);
      asked.datasets = { rows: rows.filter(row => shown.has(row.family)) };
      for (const { encoding: { x } } of asked.layer) {
        if (!x.scale) continue;
        x.scale.type = scale;
        if (scale === "linear") x.scale.domain[0] = 0;
      }
      return asked;
    }

    async function embed() {
      views.forEach(view => view.finalize());
      views = await Promise.all(panels.map((panel, i) => vegaEmbed(plots[i], specification(panel), {
        actions: false, renderer: "svg", config: looks(families), tooltip: { theme: "custom" }, patch: mended })));
    }

    function next() {
      waiting = undefined;
      drawn = embed();
      return drawn;
    }

    /* However fast the reader clicks, one drawing goes on and one waits, which draws what is asked for last. */
    function draw() {
      waiting ??= drawn.then(next, next);
      return waiting;
    }

    const toggles = families.map(family => choice({ type: "checkbox" }, true, on => {
      shown[on ? "add" : "delete"](family.name);
      draw();
    }, swatch(family), family.name));
    const name = root.dataset.chart;
    const scales = ["log", "linear"].map(value => choice({ type: "radio", name }, value === scale, () => {
      scale = value;
      draw();
    }, value));
    root.append(
      make("div", { class: "panels" }, ...panels.map(({ title }, i) =>
        make("div", { class: "panel" }, make("h4", {}, title), plots[i]))),
      make("div", { class: "legend" }, make("fieldset", {}, make("legend", {}, "Families"), ...toggles),
        make("fieldset", {}, make("legend", {}, "Horizontal axis"), ...scales)),
      make("p", { class: "hint" }, "Point at a network, or touch it, for its name and numbers. Filled: its accuracy was " +
        "measured here; hollow: as published. A blue outline on another colour: trained with GhostNetV3’s strategy."));
    root.hidden = false;
    dark.addEventListener("change", draw);
    return draw();
  }

  const near = new IntersectionObserver(seen => {
    for (const { target } of seen.filter(({ isIntersecting }) => isIntersecting)) {
      near.unobserve(target);
      const root = target.querySelector("[data-chart]");
      load().then(() => chart(root)).then(() => target.classList.add("drawn"), () => { root.hidden = true; });
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll("figure:has([data-chart])").forEach(figure => near.observe(figure));
})();
