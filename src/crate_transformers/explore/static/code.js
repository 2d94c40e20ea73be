// One token as a sum of atoms, ISTA step by step, and a neuron's page.
import { html, useMemo, useState } from "./vendor/htm-preact.js";
import { SmallMap, Pixels } from "./picture.js";
import { short } from "./ladder.js";

function Line({ values, label, mark }) {
  const W = 300, H = 90, low = Math.min(...values, 0), high = Math.max(...values, 1e-9);
  const x = (i) => 34 + (i / Math.max(values.length - 1, 1)) * (W - 42), y = (v) => 6 + (1 - (v - low) / (high - low)) * (H - 22);
  return html`<svg class="line-chart" viewBox="0 0 ${W} ${H}" role="img" aria-label="${label}: from ${short(values[0])} to ${short(values[values.length - 1])}">
    <text x="30" y=${y(high) + 6} class="tick end">${short(high)}</text><text x="30" y=${y(low)} class="tick end">${short(low)}</text>
    ${mark !== undefined && html`<line x1=${x(mark)} x2=${x(mark)} y1="4" y2=${H - 14} class="mark" />`}
    <polyline points=${values.map((v, i) => `${x(i)},${y(v)}`).join(" ")} class="line first" />
    <text x=${W / 2} y=${H - 2} class="tick middle">${label}</text></svg>`;
}

export function Code({ code, firing, state, set, grid, thumbnails, onFilm, film, filmCodes }) {
  const [shown, setShown] = useState(12);
  if (code.left_out) return html`<section aria-labelledby="code"><h2 id="code">The code</h2><p class="note">${code.left_out}</p></section>`;
  const most = Math.max(...code.values, 1e-9), prefix = code.prefix;
  const map = (i) => firing.values.subarray(i * firing.shape[1] + (grid ? prefix : 0), (i + 1) * firing.shape[1]);
  return html`<section aria-labelledby="code"><h2 id="code">The code of one token</h2>
    <p class="note">Layer ${state.layer}, token ${state.token}: ${code.neurons.length} of ${code.of_neurons} neurons are active. Their atoms, added in
      order of strength, against ${code.of === "read" ? "the token that is read, LN(Z_half)" : "what the layer writes (an exact sum)"}: ${(100 * code.residuals[code.residuals.length - 1]).toFixed(1)} % of its length is left over.</p>
    <${Line} values=${code.residuals} label="what is left after n atoms (share of the length)" />
    <div class="wide"><table class="neurons"><caption class="hidden">Active neurons, the strongest first</caption><thead><tr><th scope="col">neuron</th><th scope="col">value</th><th scope="col"><span class="hidden">strength</span></th><th scope="col">left</th><th scope="col">fires at</th></tr></thead>
      <tbody>${code.neurons.slice(0, shown).map((n, i) => html`<tr class=${n === state.neuron ? "chosen" : ""}>
        <th scope="row"><button aria-pressed=${n === state.neuron} onClick=${() => set({ neuron: n === state.neuron ? null : n })}>${n}</button></th>
        <td class="number">${short(code.values[i])}</td>
        <td><svg viewBox="0 0 100 10" preserveAspectRatio="none" class="bar" aria-hidden="true"><rect width="100" height="10" class="rail" /><rect width=${(100 * code.values[i]) / most} height="10" class="now" /></svg></td>
        <td class="number">${(100 * code.residuals[i + 1]).toFixed(0)} %</td>
        <td>${i < firing.shape[0] && html`<${SmallMap} values=${map(i)} grid=${grid || [1, firing.shape[1]]} label="where neuron ${n} fires" />`}</td></tr>`)}</tbody></table></div>
    ${code.neurons.length > shown && html`<button onClick=${() => setShown(shown + 24)}>show more of the ${code.neurons.length}</button>`}
    <div class="row"><button aria-expanded=${!!film} onClick=${onFilm}>ISTA step by step</button></div>
    ${film && html`<${Film} film=${film} codes=${filmCodes} />`}
  </section>`;
}

function Film({ film, codes }) {
  const [step, setStep] = useState(film.taken);
  if (film.left_out) return html`<p class="note">${film.left_out}</p>`;
  const at = Math.min(step, film.objective.length - 1), m = codes.shape[1];
  const values = Array.from(codes.values.subarray(at * m, (at + 1) * m));
  const most = Math.max(...codes.values), top = values.map((v, i) => [v, i]).sort((a, b) => b[0] - a[0]).slice(0, 60);
  return html`<div><p class="note">The layer takes ${film.taken} step${film.taken > 1 ? "s" : ""}; the others show where ISTA would go on to. Step ${at}: ½‖x − zDᵀ‖² + λ‖z‖₁ = ${short(film.objective[at])}, ${film.nonzeros[at]} non-zero entries.</p>
    <label class="slide">step <input type="range" aria-label="step of ISTA" min="0" max=${film.objective.length - 1} value=${at} onInput=${(e) => setStep(+e.target.value)} /> ${at}</label>
    <${Line} values=${film.objective} label="objective by step" mark=${at} />
    <svg class="line-chart" viewBox="0 0 300 60" role="img" aria-label="the 60 largest entries of the code after step ${at}">${top.map(([v], i) => html`<rect x=${i * 5} y=${58 - (54 * Math.max(v, 0)) / most} width="4" height=${(54 * Math.max(v, 0)) / most} class="now" />`)}</svg></div>`;
}

export function Neuron({ neuron, state, set, thumbnails, grid, prefix, code, clamp, isText }) {
  if (state.neuron === null) return null;
  if (!neuron || neuron.left_out) return html`<section aria-labelledby="neuron"><h2 id="neuron">Neuron ${state.neuron}</h2><p class="note">${neuron && neuron.left_out}</p></section>`;
  const here = Math.max(...neuron.here), most = Math.max(here, ...neuron.top.map((t) => t.value), 0.01);
  const set_ = state.neurons.find(([l, n]) => l === state.layer && n === state.neuron);
  const value = set_ ? set_[2] : neuron.here[state.token] ?? 0;
  return html`<section aria-labelledby="neuron"><h2 id="neuron">Neuron ${state.neuron} of layer ${state.layer}</h2>
    <div class="row"><label class="slide">set it to <input type="range" min="0" max=${(2 * most).toFixed(2)} step=${(most / 50).toFixed(4)} value=${value} onInput=${(e) => clamp(+e.target.value)} /> <output>${set_ ? short(value) : "free"}</output></label>
      <button onClick=${() => clamp(0)}>switch off</button>${set_ && html`<button onClick=${() => clamp(null)}>let it free</button>`}
      <label><input type="checkbox" checked=${state.neurons_of_tokens !== null} onChange=${(e) => set({ neurons_of_tokens: e.target.checked ? [state.token] : null })} /> on this token only</label></div>
    ${neuron.effect && html`<table class="effect"><caption>What changes without it</caption><thead><tr><th scope="col">${isText ? "next token" : "class"}</th><th scope="col">with</th><th scope="col">without</th></tr></thead><tbody>
      ${neuron.effect.labels.map((label, i) => html`<tr><th scope="row">${JSON.stringify(label).slice(1, -1)}</th><td class="number">${(100 * neuron.effect.with[i]).toFixed(1)} %</td><td class="number">${(100 * neuron.effect.without[i]).toFixed(1)} %</td></tr>`)}</tbody></table>`}
    <h3>Fires most</h3>
    ${neuron.top.length === 0 && html`<p class="note">on nothing that is shown here</p>`}
    <ul class="top">${neuron.top.map((t) => html`<li>${isText ? html`<button class="context" onClick=${() => set({ text: null, ofText: t.input, token: t.token })}>${t.around.map((w, i) => (i === t.at ? html`<mark>${w}</mark>` : w))}</button>`
      : html`<button class="thumb" aria-label="picture ${t.input}, fires with ${short(t.value)}" onClick=${() => set({ picture: t.input, token: t.token, painted: [] })}><${Thumb} array=${thumbnails} index=${t.input} at=${t.token - prefix} grid=${grid} /></button>`} <small>${short(t.value)}</small></li>`)}</ul>
  </section>`;
}

export function Thumb({ array, index, at, grid }) {
  const [, height, width] = array.shape, size = height * width * 3;
  const own = useMemo(() => ({ shape: [height, width, 3], values: array.values.subarray(index * size, (index + 1) * size) }), [array, index]);
  return html`<span class="thumb-box"><${Pixels} array=${own} className="thumb-pixels" label="" />${grid && at >= 0 && html`<svg viewBox="0 0 ${grid[1]} ${grid[0]}" preserveAspectRatio="none" class="over" aria-hidden="true"><rect x=${at % grid[1]} y=${Math.floor(at / grid[1])} width="1" height="1" class="chosen-patch" /></svg>`}</span>`;
}
