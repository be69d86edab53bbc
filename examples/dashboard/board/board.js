// The page: it reads the event stream of the server, and reconnects when the stream breaks.

import { Card } from "./card.js";
import { Model } from "./model.js";
import { number, seconds, words } from "./numbers.js";
import { make, write } from "./page.js";

/** A message comes each second. A longer silence means a broken stream. */
const SILENCE_MS = 5000;
const RETRY_MS = 2000;
const PATIENCE_MS = 10000;
const TOKEN = "steadfast-token";

const at = (id) => document.getElementById(id);
const model = new Model();
const cards = new Map();
const circuits = new Map();
let stream = null;
let heard = null;
let stopped = "";
let next = 0;

at("token").value = sessionStorage.getItem(TOKEN) ?? "";
at("token").addEventListener("input", () => sessionStorage.setItem(TOKEN, at("token").value.trim()));
at("access").addEventListener("submit", (event) => event.preventDefault());

/** Sends a part of a configuration. Returns nothing, or a description of the error. */
async function send(stack, patch) {
  const token = at("token").value.trim();
  if (token === "") {
    at("token").focus();
    return "Enter the token first: the server printed it when it started.";
  }
  try {
    const answer = await fetch(`stacks/${encodeURIComponent(stack)}`, {
      method: "POST",
      // Headers allow only these characters. A token with another character is wrong, so `?` may replace it.
      headers: { authorization: `Bearer ${token.replace(/[^\x21-\x7e]/g, "?")}`, "content-type": "application/json" },
      body: JSON.stringify(patch),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (answer.ok) return null;
    const said = (await answer.text()).trim();
    if (answer.status === 401) at("token").focus();
    return `Refused (${answer.status}): ${said || answer.statusText}`;
  } catch {
    return "The server did not answer. Nothing is known of the change.";
  }
}

function show(message) {
  const view = model.take(message);
  write(at("note"), message.note ?? "");
  at("access").hidden = !message.switches;
  at("empty")?.remove();
  for (const card of view.stacks) {
    if (!cards.has(card.name)) {
      cards.set(card.name, new Card(card.name, send));
      at("cards").append(cards.get(card.name).element);
    }
    cards.get(card.name).update(card, view, message.switches);
    announce(card);
  }
  others(view.others);
}

/** Announces a state change of a circuit to screen readers. */
function announce({ name, circuit }) {
  const before = circuits.get(name);
  circuits.set(name, circuit);
  if (before === undefined || before === circuit) return;
  write(at("announcer"), `Circuit of ${name}: ${words(circuit ?? "none")}`);
}

/** Metrics of no stack: stores, sources of configurations. */
function others(samples) {
  const old = at("others");
  if (samples.length === 0) return old?.remove();
  const rows = samples.map(({ name, labels, counter, gauge }) => {
    const title = make("th", "", words(name.replace("steadfast_", "")), " ",
      make("span", "reason", Object.values(labels).join(" ")));
    title.scope = "row";
    return make("tr", "", title, make("td", "", reading(name, counter ?? gauge)));
  });
  const table = make("table", "", make("tbody", "", ...rows));
  const title = make("h2", "", "Stores and configuration");
  const element = make("section", "card", make("div", "head", title), table);
  element.id = "others";
  return old ? old.replaceWith(element) : at("cards").append(element);
}

function reading(name, value) {
  if (name.endsWith("_up")) return value === 1 ? "up" : "down";
  return name.endsWith("_seconds") ? seconds(value) : number(value);
}

function listen() {
  stream?.close();
  next = Date.now() + SILENCE_MS;
  stream = new EventSource("events");
  stream.addEventListener("message", ({ data }) => {
    heard = new Date();
    next = Date.now() + SILENCE_MS;
    stopped = "";
    show(JSON.parse(data));
    state();
  });
  stream.addEventListener("error", () => {
    // The browser gives no details. The watch below reconnects.
    stopped = "the stream broke";
    stream.close();
    next = Math.min(next, Date.now() + RETRY_MS);
    state();
  });
}

function state() {
  const silent = heard === null ? null : Math.round((Date.now() - heard) / 1000);
  const stale = heard !== null && (stopped !== "" || silent * 1000 >= SILENCE_MS);
  const status = at("status");
  const kind = heard === null ? "waiting" : stale ? "stale" : "live";
  if (kind === "stale" && !status.classList.contains("stale")) write(at("announcer"), "The numbers are stale.");
  status.className = `status ${kind}`;
  document.body.classList.toggle("is-stale", stale);
  const since = heard?.toLocaleTimeString("en", { hour12: false });
  write(status, kind === "live" ? "live" : kind === "stale" ? `stale since ${since} (${silent} s)`
    : stopped === "" ? "connecting" : "no answer yet, asking again");
}

setInterval(() => {
  if (Date.now() >= next) listen();
  state();
}, 500);
listen();
