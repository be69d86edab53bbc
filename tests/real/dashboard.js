// Runs in the page: messages of one stack through the model, and what it makes of them.
const counted = (name, labels, counter) => ({ name: `steadfast_${name}`, labels: { stack: "s", ...labels }, counter });
const gauge = (name, labels, value) => ({ name: `steadfast_${name}`, labels: { stack: "s", ...labels }, gauge: value });
const times = (name, labels, counts) =>
  ({ name: `steadfast_${name}`, labels: { stack: "s", ...labels }, histogram: { counts, sum: counts[0] } });
const message = (time, success, rejected, more = []) => ({
  time,
  note: "a note",
  switches: false,
  buckets: [1, 2],
  stacks: [],
  samples: [
    times("call_duration_seconds", { outcome: "success" }, [success, 0, 0]),
    times("call_duration_seconds", { outcome: "rejected" }, [0, 0, rejected]),
    times("attempt_duration_seconds", { kind: "first", outcome: "success" }, [success, 0, 0]),
    times("attempt_duration_seconds", { kind: "retry", outcome: "success" }, [success / 2, 0, 0]),
    counted("rejections_total", { mechanism: "load_shed", reason: "limit", reached: "false" }, rejected),
    ...more,
  ],
});
const model = new Model();
const take = (...parts) => model.take(message(...parts)).stacks[0];
const seen = {};
// Counts of before say nothing of the present.
let card = take(100, 1000, 5);
seen.first = [card.rates.success, card.p50, card.attemptsPerCall];
card = take(101, 1020, 10);
seen.second = {
  success: card.rates.success,
  rejected: card.rates.rejected,
  p50: card.p50,
  attempts: card.attemptsPerCall,
  table: card.rejections.map(({ title, rate, total }) => [...title, rate, total]),
};
// A message came late: its count belongs to two seconds.
card = take(103, 1050, 10);
seen.averaged = [card.history.at(-1).rates.success, card.rates.success.toFixed(2)];
// The server began again.
card = take(1, 6, 0);
seen.restarted = { history: card.history.length, success: card.rates.success };
seen.after = take(2, 12, 0).rates.success;
const states = ["closed", "open"].map((state) => gauge("circuit_state", { state }, state === "open" ? 1 : 0));
const left = [gauge("circuit_half_open_in_seconds", {}, 3.5), gauge("queue_drain_seconds", {}, null)];
card = take(3, 12, 0, [...states, ...left]);
seen.circuit = [card.circuit, card.halfOpenIn];
seen.drain = [card.drain, take(4, 12, 0).drain === undefined];
return seen;
