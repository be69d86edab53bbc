// The card of one stack. It shows only the mechanisms of that stack.

import { Chart } from "./chart.js";
import { delay, number, percent, rate, seconds, whole, words } from "./numbers.js";
import { Meter, make, write } from "./page.js";
import { Switches } from "./switches.js";

const CIRCUITS = {
  closed: "closed",
  half_open: "half open",
  open: "open",
  forced_open: "held open",
  forced_closed: "held closed",
};

/** Three levels of utilization. */
const level = (value, most) => value >= most ? "full" : value >= most * 0.8 ? "high" : "calm";

const of = (value, most) => Number.isFinite(most) ? [whole(value), ` / ${whole(most)}`] : [whole(value), ""];

const quota = ({ count, period, burst }) =>
  `${whole(count)}${period === "1s" ? "/s" : ` per ${period}`}${burst === count ? "" : `, burst ${whole(burst)}`}`;

/** Each tile: its condition and its content. */
const TILES = [
  {
    label: "Latency",
    has: () => true,
    fill: (tile, { p50, p99 }, bounds) => {
      tile.pair(["p50", delay(p50, bounds)], ["p99", delay(p99, bounds)]);
    },
  },
  {
    label: "Attempts per call",
    has: ({ attempted }) => attempted,
    fill: (tile, { attemptsPerCall }) => tile.say([attemptsPerCall === null ? "–" : attemptsPerCall.toFixed(2)]),
  },
  {
    label: "In flight",
    has: ({ inFlight, served }) => inFlight !== null || served !== null,
    fill: (tile, { inFlight, inFlightLimit, served, servedLimit, config }) => {
      // Calls in the queue are in flight too.
      const [now, most] = inFlight === null ? [served, servedLimit] : [inFlight, inFlightLimit];
      tile.say(of(now, most));
      tile.list([
        ...(served === null ? [] : [`${of(served, servedLimit).join("")} in service`]),
        ...(config?.load_shed?.shadow ? ["limit in shadow"] : []),
      ]);
      tile.meter.show(now, most, `${whole(now)} of ${whole(most)}`, level(now, most));
    },
  },
  {
    label: "Circuit",
    has: ({ circuit }) => circuit !== null,
    fill: (tile, { circuit, halfOpenIn, failureRatio }) => {
      // An open circuit sees no failures.
      const counts = failureRatio !== null && (circuit === "closed" || circuit === "half_open");
      tile.say([CIRCUITS[circuit] ?? words(circuit)]);
      tile.list([
        ...(circuit === "open" ? [`probes in ${seconds(Math.max(0, halfOpenIn ?? 0))}`] : []),
        ...(counts ? [`${percent(failureRatio)} failures`] : []),
      ]);
      tile.value.className = `value circuit ${circuit}`;
    },
  },
  {
    label: "Retry budget",
    has: ({ budget }) => budget !== null,
    fill: (tile, { budget, config }) => {
      const most = config?.retry?.budget?.cap;
      tile.say(Number.isFinite(most) ? [number(budget), ` / ${whole(most)}`] : [number(budget)],
        budget < 1 ? "empty: no retries" : "");
      tile.meter.show(budget, most, `${number(budget)} of ${most} retries`, budget < 1 ? "full" : "calm");
    },
  },
  {
    label: "Queue",
    has: ({ waiting }) => waiting !== null,
    fill: (tile, { waiting, oldest, drain, config }) => {
      const most = config?.load_level?.depth;
      tile.say(of(waiting, most));
      // Zero means that the time is not known yet.
      const gone = drain === null ? ["does not drain"] : drain > 0 ? [`drains in ${seconds(drain)}`] : [];
      tile.list(waiting > 0 ? [`oldest ${seconds(oldest)}`, ...gone] : ["no call waits"]);
      tile.meter.show(waiting, most, `${whole(waiting)} of ${whole(most)} wait`, level(waiting, most));
    },
  },
  {
    label: "Rate limit",
    has: ({ available, keys, config }) => available.length > 0 || config?.rate_limit?.length > 0
      || keys.some(({ mechanism }) => mechanism === "rate_limit"),
    fill: (tile, { available, waitingForTokens, keys, config }) => {
      const limits = config?.rate_limit ?? [];
      const tracked = keys.find(({ mechanism }) => mechanism === "rate_limit");
      const left = available.map((each) => whole(each.available)).join(" · ");
      if (available.length > 0) tile.say([left, " available"]);
      else if (tracked) tile.say([whole(tracked.keys), tracked.keys === 1 ? " key in use" : " keys in use"]);
      else tile.say([whole(limits.length), limits.length === 1 ? " limit" : " limits"]);
      const tiers = limits.flatMap(({ quotas }) => quotas.map((each, tier) =>
        quotas.length > 1 ? `tier ${tier}: ${quota(each)}` : quota(each)));
      const waits = waitingForTokens > 0 ? [`${whole(waitingForTokens)} wait`] : [];
      tile.list([...tiers, ...waits, ...(limits.some((limit) => limit.shadow) ? ["in shadow"] : [])]);
    },
  },
];

class Tile {
  constructor({ label }) {
    this.value = make("p", "value");
    this.detail = make("p", "detail");
    this.meter = new Meter(label);
    this.meter.element.hidden = true;
    this.element = make("div", "tile", make("h3", "", label), this.value, this.detail,
      this.meter.element);
  }

  /** A number and its label. */
  say([main, rest = ""], detail) {
    this.parts ??= this.fresh(make("span", ""), make("small", ""));
    write(this.parts[0], main);
    write(this.parts[1], rest);
    if (detail !== undefined) write(this.detail, detail);
  }

  /** Two numbers with their names. */
  pair(...pairs) {
    const named = ([name]) => make("span", "named", make("small", "", name), make("span", ""));
    this.parts ??= this.fresh(...pairs.map(named));
    pairs.forEach(([, value], index) => write(this.parts[index].lastChild, value));
  }

  fresh(...parts) {
    this.value.replaceChildren(...parts);
    return parts;
  }

  list(lines) {
    if (lines.join("\n") === this.listed) return;
    this.listed = lines.join("\n");
    this.detail.replaceChildren(...lines.map((line) => make("span", "line", line)));
  }
}

/** Rows of a counter with labels. */
class Table {
  constructor(title) {
    this.body = make("tbody", "");
    const head = make("tr", "", ...["", "per second", "total"].map((text) => make("th", "", text)));
    head.firstChild.textContent = title;
    head.querySelectorAll("th").forEach((cell) => { cell.scope = "col"; });
    this.element = make("table", "", make("thead", "", head), this.body);
  }

  update(rows) {
    this.element.hidden = rows.length === 0;
    const cells = rows.map((row) => {
      const title = make("th", "", ...row.title.flatMap((word, index) =>
        index === 0 ? [words(word)] : [" ", make("span", "reason", words(word))]));
      title.scope = "row";
      const numbers = [rate(row.rate), whole(row.total)].map((text) => make("td", "", text));
      return make("tr", row.rate > 0 ? "" : "past", title, ...numbers);
    });
    this.body.replaceChildren(...cells);
  }
}

/** The condition of the stack, as a word and a colour. */
export function verdict({ config, circuit, off, rates }) {
  if (off || config?.switched_off) return ["off", "switched off"];
  if (circuit === "open") return ["bad", "circuit open"];
  if (circuit === "forced_open") return ["bad", "circuit held open"];
  if (circuit === "half_open") return ["fair", "probing"];
  const all = Object.values(rates).reduce((sum, value) => sum + (value ?? 0), 0);
  if (all === 0) return ["off", "idle"];
  const failing = (rates.failure + rates.timed_out + rates.overloaded + rates.panicked) / all;
  if (failing > 0.05) return ["bad", `${percent(failing)} fail`];
  if (rates.rejected / all > 0.01) return ["fair", `refuses ${percent(rates.rejected / all)}`];
  return ["good", "all well"];
}

export class Card {
  constructor(name, send) {
    const id = `stack-${name}`;
    this.badge = make("p", "badge");
    const title = make("h2", "", name);
    title.id = id;
    this.chart = new Chart();
    this.tiles = make("div", "tiles");
    this.shown = TILES.map((kind) => ({ kind, tile: new Tile(kind) }));
    this.tables = {
      rejections: new Table("Refused by"),
      denied: new Table("Retries denied"),
      shadowed: new Table("Would be refused (shadow)"),
    };
    this.switches = new Switches(name, send);
    const tables = make("div", "tables", ...Object.values(this.tables).map((table) => table.element));
    const head = make("div", "head", title, this.badge);
    this.element = make("section", "card", head, this.chart.element, this.tiles, tables, this.switches.element);
    this.element.setAttribute("aria-labelledby", id);
  }

  update(card, { marks, time, bounds }, switchable) {
    const [kind, text] = verdict(card);
    this.badge.className = `badge ${kind}`;
    write(this.badge, text);
    this.chart.update(card, marks, time);
    const present = this.shown.filter((entry) => entry.kind.has(card));
    present.forEach((entry) => entry.kind.fill(entry.tile, card, bounds));
    const elements = present.map((entry) => entry.tile.element);
    if (elements.length !== this.tiles.children.length) this.tiles.replaceChildren(...elements);
    for (const [part, table] of Object.entries(this.tables)) table.update(card[part]);
    this.switches.update(card.config, switchable);
  }
}
