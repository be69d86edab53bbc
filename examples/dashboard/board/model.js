// Derives the numbers of each stack from the messages of the server. Uses no page and no clock: messages have the time.

import { histogramIncrease, increase, quantile, together, total } from "./numbers.js";

/** From good to bad, in the order of the chart. */
export const OUTCOMES = [
  "success", "ignored", "permanent", "unprocessed", "rejected", "cancelled", "overloaded", "timed_out", "failure",
  "panicked",
];
/** Outcomes whose duration says nothing about the service. */
const TIMELESS = ["rejected", "cancelled"];

export const HISTORY_SECONDS = 120;
const WINDOW_SECONDS = 10;
const RATE_SECONDS = 3;
const PREFIX = "steadfast_";

const keyOf = (sample) => `${sample.name} ${JSON.stringify(sample.labels)}`;

/** Keeps the last messages, and the growth of each counter between them. */
export class Model {
  steps = [];
  history = new Map();
  marks = [];
  last = null;

  /** Adds a message. Returns the cards: `{ stacks, others }`. */
  take(message) {
    if (this.last && message.time < this.last.message.time) this.forget();
    const before = this.last;
    const samples = new Map(message.samples.map((sample) => [keyOf(sample), sample]));
    if (before && message.time > before.message.time) this.grow(before, message, samples);
    if (before?.message.note !== message.note && before) this.marks.push(message.time);
    this.last = { message, samples };
    const oldest = message.time - HISTORY_SECONDS - 2;
    this.marks = this.marks.filter((time) => time > oldest);
    return this.cards(message);
  }

  /** Drops everything: the server was restarted, and its time and its counters began again at zero. */
  forget() {
    this.steps = [];
    this.history.clear();
    this.marks = [];
    this.last = null;
  }

  grow(before, message, samples) {
    const growth = new Map();
    for (const [key, sample] of samples) {
      const old = before.samples.get(key);
      const grown = sample.histogram ? histogramIncrease(old?.histogram, sample.histogram)
        : sample.counter === undefined ? undefined : increase(old?.counter, sample.counter);
      if (grown !== undefined) growth.set(key, { ...sample, grown });
    }
    const step = { time: message.time, took: message.time - before.message.time, growth };
    this.steps.push(step);
    this.steps = this.steps.filter(({ time }) => time > message.time - WINDOW_SECONDS);
    for (const stack of namesOf(message)) {
      const rates = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, 0]));
      for (const { grown, labels } of within([step], "call_duration_seconds", stack)) {
        rates[labels.outcome] = (rates[labels.outcome] ?? 0) + total(grown) / step.took;
      }
      const points = this.history.get(stack) ?? [];
      points.push({ time: message.time, rates });
      this.history.set(stack, points.filter(({ time }) => time > message.time - HISTORY_SECONDS - 2));
    }
  }

  /** The steps of the last seconds, and their duration. */
  recent(seconds) {
    const steps = this.steps.filter(({ time }) => time > this.last.message.time - seconds);
    return { steps, took: steps.reduce((sum, { took }) => sum + took, 0) };
  }

  cards(message) {
    const configs = new Map(message.stacks.map(({ name, config }) => [name, config]));
    const gauges = message.samples.filter((sample) => sample.gauge !== undefined);
    const stacks = namesOf(message).map((name) => this.card(name, configs.get(name) ?? null, gauges, message));
    // A counter at zero needs no row.
    const others = message.samples.filter(({ labels, counter, gauge }) =>
      labels.stack === undefined && (counter > 0 || gauge !== undefined));
    return { stacks, others, marks: this.marks, time: message.time, bounds: message.buckets };
  }

  card(name, config, gauges, message) {
    const gauge = (metric, labels = {}) => gauges.find((sample) => sample.name === PREFIX + metric
      && sample.labels.stack === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value));
    const value = (metric, labels) => gauge(metric, labels)?.gauge ?? null;
    const all = (metric) => gauges.filter((sample) => sample.name === PREFIX + metric && sample.labels.stack === name);
    return {
      name,
      config,
      history: this.history.get(name) ?? [],
      ...this.calls(name, message.buckets),
      off: value("switched_off") === 1,
      inFlight: value("in_flight", { mechanism: "load_shed" }),
      inFlightLimit: value("in_flight_limit", { mechanism: "load_shed" }),
      served: value("in_flight", { mechanism: "load_level" }),
      servedLimit: value("in_flight_limit", { mechanism: "load_level" }),
      circuit: all("circuit_state").find((sample) => sample.gauge === 1)?.labels.state ?? null,
      halfOpenIn: value("circuit_half_open_in_seconds"),
      failureRatio: value("circuit_failure_ratio"),
      budget: value("retry_budget_balance"),
      waiting: value("queue_waiting"),
      oldest: value("queue_oldest_seconds"),
      // `null` is infinite, which JSON cannot express.
      drain: gauge("queue_drain_seconds")?.gauge,
      available: all("rate_limit_available").map(({ labels, gauge }) => ({ limit: labels.limit, available: gauge })),
      waitingForTokens: all("rate_limit_waiting").reduce((sum, sample) => sum + sample.gauge, 0),
      keys: all("keys").map(({ labels, gauge }) => ({ mechanism: labels.mechanism, keys: gauge })),
      rejections: this.table(name, "rejections_total", ["mechanism", "reason"]),
      shadowed: this.table(name, "shadow_rejections_total", ["mechanism", "reason"]),
      denied: this.table(name, "retries_denied_total", ["reason"]),
    };
  }

  /** Rates, quantiles and attempts. */
  calls(name, bounds) {
    const brief = this.recent(RATE_SECONDS);
    const rates = Object.fromEntries(OUTCOMES.map((outcome) => [outcome, brief.took > 0 ? 0 : null]));
    for (const { grown, labels } of within(brief.steps, "call_duration_seconds", name)) {
      rates[labels.outcome] = (rates[labels.outcome] ?? 0) + total(grown) / brief.took;
    }
    const { steps } = this.recent(WINDOW_SECONDS);
    const timed = within(steps, "call_duration_seconds", name)
      .filter(({ labels }) => !TIMELESS.includes(labels.outcome));
    const times = timed.reduce((sum, { grown }) => together(sum, grown), undefined);
    const attempts = within(steps, "attempt_duration_seconds", name);
    const count = (samples) => samples.reduce((sum, { grown }) => sum + total(grown), 0);
    const first = count(attempts.filter(({ labels }) => labels.kind === "first"));
    return {
      rates,
      p50: quantile(times, bounds, 0.5),
      p99: quantile(times, bounds, 0.99),
      attempted: this.last.message.samples.some(({ name: metric, labels }) =>
        metric === `${PREFIX}attempt_duration_seconds` && labels.stack === name),
      attemptsPerCall: first > 0 ? count(attempts) / first : null,
    };
  }

  /** The rows of a counter with these labels: events per second, and in total. */
  table(name, metric, labels) {
    const { steps, took } = this.recent(WINDOW_SECONDS);
    const titleOf = (sample) => labels.map((label) => sample.labels[label]).filter(Boolean);
    const rows = new Map();
    const row = (sample) => {
      const title = titleOf(sample);
      const key = title.join(" ");
      if (!rows.has(key)) rows.set(key, { title, total: 0, rate: took > 0 ? 0 : null });
      return rows.get(key);
    };
    for (const sample of this.last?.message.samples ?? []) {
      if (sample.name === PREFIX + metric && sample.labels.stack === name) row(sample).total += sample.counter;
    }
    for (const sample of within(steps, metric, name)) row(sample).rate += sample.grown / took;
    return [...rows.values()].filter((entry) => entry.total > 0).sort((one, other) => other.total - one.total);
  }
}

/** All stacks: first those of the board, in its order, then the others. */
function namesOf(message) {
  const seen = message.samples.map((sample) => sample.labels.stack).filter((name) => name !== undefined);
  return [...new Set([...message.stacks.map(({ name }) => name), ...seen])];
}

/** The growth of the samples of a metric of this stack in these steps. */
function within(steps, metric, stack) {
  const found = [];
  for (const { growth } of steps) {
    for (const sample of growth.values()) {
      if (sample.name === PREFIX + metric && sample.labels.stack === stack) found.push(sample);
    }
  }
  return found;
}
