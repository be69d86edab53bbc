// The stacked chart of a card: calls per second by outcome.

import { HISTORY_SECONDS, OUTCOMES } from "./model.js";
import { ceiling, number, rate, whole, words } from "./numbers.js";
import { make } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;

function drawn(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The outline of one layer of the chart. `lower` and `upper` are heights at these times. */
export function outline(times, lower, upper) {
  const at = (index, height) => `${times[index].toFixed(2)} ${height.toFixed(2)}`;
  const there = times.map((_, index) => at(index, upper[index]));
  const back = times.map((_, index) => at(index, lower[index])).reverse();
  return `M${[...there, ...back].join("L")}Z`;
}

export class Chart {
  constructor() {
    this.svg = drawn("svg", { viewBox: `0 0 ${HISTORY_SECONDS} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.half = drawn("path", { class: "rule", d: `M0 ${HEIGHT / 2}H${HISTORY_SECONDS}` });
    this.marks = drawn("path", { class: "mark" });
    this.layers = new Map(OUTCOMES.map((outcome) => [outcome, drawn("path", { class: `of-${outcome}` })]));
    this.svg.append(...this.layers.values(), this.half, this.marks);
    this.top = make("span", "axis top");
    this.middle = make("span", "axis middle");
    this.legend = make("ul", "legend");
    this.entries = new Map();
    const plot = make("div", "plot", this.svg, this.top, this.middle);
    const scale = make("div", "scale", ...["2 min ago", "1 min", "now"].map((text) => make("span", "", text)));
    scale.setAttribute("aria-hidden", "true");
    this.element = make("div", "chart", plot, scale, this.legend);
  }

  update({ name, history, rates }, marks, now) {
    const used = OUTCOMES.filter((outcome) => history.some((point) => point.rates[outcome] > 0));
    const most = Math.max(0, ...history.map((point) => used.reduce((sum, outcome) => sum + point.rates[outcome], 0)));
    const scale = ceiling(most);
    this.top.textContent = `${number(scale)}/s`;
    this.middle.textContent = `${number(scale / 2)}/s`;
    const times = history.map(({ time }) => HISTORY_SECONDS - (now - time));
    let lower = history.map(() => HEIGHT);
    for (const [outcome, layer] of this.layers) {
      const upper = history.map((point, index) => lower[index] - HEIGHT * (point.rates[outcome] ?? 0) / scale);
      const drawn = history.length > 1 && used.includes(outcome);
      layer.setAttribute("d", drawn ? outline(times, lower, upper) : "");
      lower = upper;
    }
    this.marks.setAttribute("d", marks.map((time) => `M${HISTORY_SECONDS - (now - time)} 0V${HEIGHT}`).join(""));
    // Success is always shown, so that the legend of a new page has a row.
    this.list(OUTCOMES.filter((outcome) => outcome === "success" || used.includes(outcome)), rates);
    const said = used.map((outcome) => `${words(outcome)} ${rate(rates[outcome])} per second`).join(", ");
    this.svg.setAttribute("aria-label", `Calls of ${name} by outcome: ${said || "none"}`);
  }

  list(outcomes, rates) {
    for (const outcome of outcomes) {
      if (!this.entries.has(outcome)) {
        const value = make("b", "");
        const swatch = make("i", `swatch of-${outcome}`);
        this.entries.set(outcome, { value, row: make("li", "", swatch, make("span", "", words(outcome)), value) });
      }
      this.entries.get(outcome).value.textContent = rate(rates[outcome]);
    }
    const rows = outcomes.map((outcome) => this.entries.get(outcome).row);
    if (rows.length !== this.legend.children.length || rows.some((row, index) => row !== this.legend.children[index])) {
      this.legend.replaceChildren(...rows);
    }
  }
}
