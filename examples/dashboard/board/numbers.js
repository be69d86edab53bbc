// Arithmetic on counters and histograms, and the format of numbers. Pure functions without page and clock.

/** The growth of a counter. A counter that fell was reset, and has grown from zero. */
export function increase(before, after) {
  return before === undefined || after < before ? after : after - before;
}

/** The growth of each bucket of a histogram and of its sum. If one of them fell, all were reset. */
export function histogramIncrease(before, after) {
  const reset = before === undefined || before.counts.length !== after.counts.length
    || after.sum < before.sum || after.counts.some((count, index) => count < before.counts[index]);
  if (reset) return after;
  return { counts: after.counts.map((count, index) => count - before.counts[index]), sum: after.sum - before.sum };
}

/** The sum of two histograms. Either may be missing. */
export function together(one, other) {
  if (!one || !other) return one ?? other;
  const [longer, shorter] = one.counts.length < other.counts.length ? [other, one] : [one, other];
  const counts = longer.counts.map((count, index) => count + (shorter.counts[index] ?? 0));
  return { counts, sum: one.sum + other.sum };
}

export const total = (histogram) => histogram ? histogram.counts.reduce((sum, count) => sum + count, 0) : 0;

/**
 * The value below which this share of a histogram lies, if values spread evenly within a bucket. `null` without
 * values; `Infinity` if it lies beyond the last bound.
 */
export function quantile(histogram, bounds, share) {
  const all = total(histogram);
  if (all === 0) return null;
  const rank = share * all;
  let below = 0;
  for (let index = 0; index < histogram.counts.length; index += 1) {
    const count = histogram.counts[index];
    if (count > 0 && below + count >= rank) {
      if (index >= bounds.length) return Infinity;
      const lower = index === 0 ? 0 : bounds[index - 1];
      return lower + (bounds[index] - lower) * Math.max(0, rank - below) / count;
    }
    below += count;
  }
  return Infinity;
}

/** The smallest round number of at least this value, for the top of a chart. */
export function ceiling(value) {
  if (!(value > 1)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * (1 - 1e-9));
}

const plain = (value, digits) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A number, rounded to about three digits. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 99.5) return plain(value, 0);
  return plain(value, Math.abs(value) >= 9.95 ? 1 : 2);
}

/** A whole number with grouped digits. */
export const whole = (value) => Number.isFinite(value) ? plain(value, 0) : "–";

/** Events per second. */
export function rate(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return plain(value, value > 0 && value < 99.95 ? 1 : 0);
}

export function percent(share) {
  return Number.isFinite(share) ? `${plain(share * 100, share > 0 && share < 0.0995 ? 1 : 0)} %` : "–";
}

/** A duration in a suitable unit. */
export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === Infinity) return "no end";
  const tidy = (amount) => plain(amount, amount > 0 && amount < 9.95 ? 1 : 0);
  if (value === 0) return "0 s";
  if (value < 0.0009995) return `${tidy(value * 1e6)} µs`;
  if (value < 0.9995) return `${tidy(value * 1e3)} ms`;
  if (value < 99.5) return `${plain(value, 1)} s`;
  if (value < 5970) return `${plain(value / 60, 0)} min`;
  return `${plain(value / 3600, 1)} h`;
}

/** A quantile, in words if it exceeds the last bound. */
export const delay = (value, bounds) => value === Infinity ? `> ${seconds(bounds.at(-1))}` : seconds(value);

/** `rate_limit` for people: `rate limit`. */
export const words = (name) => name.replaceAll("_", " ");
