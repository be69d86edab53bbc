// The switches of a card. Each sends a part of a configuration, and shows the configuration in the server's messages.

import { make, write } from "./page.js";

export class Switches {
  constructor(name, send) {
    this.name = name;
    this.send = send;
    this.answer = make("p", "answer");
    this.answer.setAttribute("role", "alert");
    this.controls = new Map();
    this.rows = make("div", "rows");
    this.element = make("fieldset", "switches", make("legend", "", `Switches of ${name}`), this.rows, this.answer);
    this.element.hidden = true;
  }

  update(config, switchable) {
    this.element.hidden = !config || !switchable;
    if (this.element.hidden) return;
    this.toggle("switched_off", "Kill switch: refuse every call", config.switched_off, (on) => ({ switched_off: on }));
    if (config.load_shed) {
      const { limit, shadow } = config.load_shed;
      this.amount("limit", "Most calls in flight", limit, (count) => ({ load_shed: { limit: count } }));
      const patch = (on) => ({ load_shed: { shadow: on } });
      this.toggle("load_shed.shadow", "Load shed in shadow: only count", shadow, patch);
    }
    const limits = config.rate_limit ?? [];
    limits.forEach((limit, index) => {
      const which = limits.length > 1 ? `Rate limit ${index + 1}` : "Rate limit";
      const patch = (on) => ({ rate_limit: limits.map((_, other) => other === index ? { shadow: on } : {}) });
      this.toggle(`rate_limit.${index}`, `${which} in shadow: only count`, limit.shadow, patch);
    });
    if (config.circuit_breaker) {
      const choices = [["", "by results"], ["open", "held open"], ["closed", "held closed"]];
      const patch = (held) => ({ circuit_breaker: { forced: held || null } });
      this.choice("circuit", "Circuit", choices, config.circuit_breaker.forced ?? "", patch);
    }
  }

  control(key, build) {
    if (!this.controls.has(key)) {
      const control = build();
      this.controls.set(key, control);
      this.rows.append(control.row);
    }
    return this.controls.get(key);
  }

  toggle(key, label, on, patch) {
    const control = this.control(key, () => {
      const input = make("input", "");
      input.type = "checkbox";
      input.setAttribute("role", "switch");
      const made = { input, busy: false, row: make("label", "row", input, make("span", "", label)) };
      input.addEventListener("change", () => this.post(made, made.patch(input.checked)));
      return made;
    });
    control.patch = patch;
    control.show = () => { control.input.checked = on; };
    if (!control.busy) control.show();
  }

  amount(key, label, count, patch) {
    const control = this.control(key, () => {
      const input = make("input", "");
      Object.assign(input, { type: "number", min: "1", step: "1", inputMode: "numeric" });
      const button = make("button", "", "Set");
      const made = { input, busy: false, edited: false };
      made.row = make("form", "row", make("label", "", make("span", "", label), input), button);
      button.setAttribute("aria-label", `Set: ${label.toLowerCase()}`);
      made.row.noValidate = true;
      input.addEventListener("input", () => { made.edited = true; });
      made.row.addEventListener("submit", (event) => {
        event.preventDefault();
        made.edited = false;
        // The server describes what is wrong with a number, in the words of the library.
        this.post(made, made.patch(input.value === "" ? null : Number(input.value)));
      });
      return made;
    });
    control.patch = patch;
    control.show = () => { control.input.value = String(count); };
    if (!control.busy && !control.edited) control.show();
  }

  choice(key, label, choices, value, patch) {
    const control = this.control(key, () => {
      const input = make("select", "", ...choices.map(([chosen, text]) => new Option(text, chosen)));
      const made = { input, busy: false, row: make("label", "row", make("span", "", label), input) };
      input.addEventListener("change", () => this.post(made, made.patch(input.value)));
      return made;
    });
    control.patch = patch;
    control.show = () => { control.input.value = value; };
    if (!control.busy && document.activeElement !== control.input) control.show();
  }

  /** Until the server has answered, an earlier message does not reset the control. */
  async post(control, patch) {
    control.busy = true;
    write(this.answer, "");
    const refusal = await this.send(this.name, patch);
    control.busy = false;
    if (refusal) {
      control.show();
      write(this.answer, refusal);
    }
  }
}
