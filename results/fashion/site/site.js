/* What a page does where scripts run: contents that fold on a phone and show the place, tables that keep their header,
   and the claims' filter. Without them every word is there. */
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const desk = matchMedia("(min-width: 64rem)");

  function contents() {
    const nav = document.querySelector(".contents");
    const details = nav.querySelector("details");
    const fold = () => { details.open = desk.matches; };
    fold();
    desk.addEventListener("change", fold);
    nav.addEventListener("click", event => {
      if (!desk.matches && event.target.closest("a")) details.open = false;
    });
    const links = [...nav.querySelectorAll(".sections a")];
    const places = links.map(link => document.getElementById(decodeURIComponent(link.hash.slice(1))));
    const here = nav.querySelector(".here");
    const mark = () => {
      const at = places.findLastIndex(place => place.getBoundingClientRect().top < innerHeight / 3);
      links.forEach(link => link.removeAttribute("aria-current"));
      links[at]?.setAttribute("aria-current", "true");
      here.textContent = at < 0 ? "" : "· " + links[at].textContent;
    };
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; mark(); });
    }, { passive: true });
    mark();
  }

  /* A header stays in view only in a table that need not scroll sideways. */
  function tables() {
    const look = new ResizeObserver(entries => entries.forEach(({ target }) => {
      target.classList.remove("fits");
      target.classList.toggle("fits", target.scrollWidth <= target.clientWidth);
    }));
    document.querySelectorAll(".box").forEach(box => look.observe(box));
  }

  function claims(form) {
    const table = document.querySelector("table.verdicts");
    const all = [...table.tBodies];
    const words = new Map(all.map(claim => [claim, claim.textContent.toLowerCase()]));
    const orders = {
      place: (a, b) => a.dataset.place - b.dataset.place,
      verdict: (a, b) => a.dataset.rank - b.dataset.rank,
      subject: (a, b) => a.dataset.subject.localeCompare(b.dataset.subject),
      seeds: (a, b) => b.dataset.seeds - a.dataset.seeds,
    };
    const checks = [...form.querySelectorAll("[name=verdict]")];

    function show() {
      const sought = form.elements.words.value.toLowerCase().split(/\s+/);
      const verdicts = checks.filter(box => box.checked).map(box => box.value);
      const by = form.elements.by.value;
      let count = 0;
      for (const claim of all) {
        const { verdict, by: author } = claim.dataset;
        claim.hidden = (verdicts.length > 0 && !verdicts.includes(verdict)) || (by !== "" && by !== author) ||
          !sought.every(word => words.get(claim).includes(word));
        count += !claim.hidden;
      }
      form.elements.count.textContent = `${count} of ${all.length} claims`;
    }

    function sort() {
      const order = orders[form.elements.order.value];
      table.append(...[...all].sort((a, b) => order(a, b) || orders.place(a, b)));
    }

    /* A claim that an address names is shown, whatever the filter says. */
    function reveal() {
      const claim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (claim && claim.hidden) {
        form.reset();
        setTimeout(() => claim.scrollIntoView());  // after the form's own, which shows it
      }
    }

    form.hidden = false;
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("input", show);
    form.elements.order.addEventListener("change", sort);
    form.addEventListener("reset", () => setTimeout(() => { sort(); show(); }));
    addEventListener("hashchange", reveal);
    document.querySelectorAll('a[href^="#claim-"]').forEach(link => link.addEventListener("click", () => {
      setTimeout(reveal);
    }));
    document.querySelectorAll("a[data-verdict]").forEach(link => link.addEventListener("click", () => {
      form.reset();
      checks.forEach(box => { box.checked = box.value === link.dataset.verdict; });
      show();
    }));
    sort();  // a browser may remember what was chosen
    show();
  }

  document.addEventListener("DOMContentLoaded", () => {
    contents();
    tables();
    const form = document.querySelector("form.filter");
    if (form) claims(form);
  });
})();
