// Small helpers to make elements.

/** An element with a class and children. */
export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Writes a text if it has changed, so that an unchanged page causes no work. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A bar from empty to full. */
export class Meter {
  constructor(label) {
    this.fill = make("i", "");
    this.element = make("div", "meter", this.fill);
    this.element.setAttribute("role", "meter");
    this.element.setAttribute("aria-label", label);
    this.element.setAttribute("aria-valuemin", "0");
  }

  /** `level` sets its colour: `calm`, `high` or `full`. */
  show(value, most, text, level) {
    const known = Number.isFinite(value) && Number.isFinite(most) && most > 0;
    this.element.hidden = !known;
    if (!known) return;
    const share = Math.min(1, Math.max(0, value / most));
    this.fill.style.width = `${(share * 100).toFixed(1)}%`;
    this.element.className = `meter ${level}`;
    this.element.setAttribute("aria-valuemax", String(most));
    this.element.setAttribute("aria-valuenow", String(Math.min(most, Math.max(0, value))));
    this.element.setAttribute("aria-valuetext", text);
  }
}
