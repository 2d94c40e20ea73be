// What the model makes of it: a bar a class or candidate, with what it was before the change.
import { html } from "./vendor/htm-preact.js";
import { Pixels } from "./picture.js";

const percent = (value) => (100 * value).toFixed(1) + " %";

export function Prediction({ found, array, changed }) {
  if (found.kind === "reconstruction")
    return html`<div><h3>${found.name} rebuilds</h3><p class="note">masked, rebuilt, true</p><${Pixels} array=${array} className="pixels rebuilt" label="masked, rebuilt and true picture" /></div>`;
  const what = found.what;
  return html`<div><h3>${found.name}, ${what}: <span class="best">${found.best}</span>${changed && found.best !== found.best_before && html` <small>(was ${found.best_before})</small>`}</h3>
    <table class="bars"><thead class="hidden"><tr><th>${what}</th><th>share</th><th>probability</th></tr></thead><tbody>${found.labels.map((label, i) => {
      const now = found.probabilities[i], before = found.before[i], gain = now - before;
      return html`<tr><th scope="row">${JSON.stringify(label).slice(1, -1)}</th>
        <td><svg viewBox="0 0 100 10" preserveAspectRatio="none" class="bar" aria-hidden="true"><rect width="100" height="10" class="rail" />
          <rect width=${100 * now} height="10" class="now" />${changed && html`<rect x=${100 * Math.min(now, before)} width=${100 * Math.abs(gain)} height="10" class=${gain > 0 ? "gain" : "loss"} />`}</svg></td>
        <td class="number">${percent(now)}${changed && Math.abs(gain) > 0.0005 && html` <small>${gain > 0 ? "+" : "−"}${(100 * Math.abs(gain)).toFixed(1)}</small>`}</td></tr>`; })}</tbody></table></div>`;
}
