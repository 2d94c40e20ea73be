// The page: one state, one question to the server, one picture of the answer.
import { html, render, useState, useEffect, useMemo, useRef } from "./vendor/htm-preact.js";
import { Asker, firstView, post, postUnpacked, unpack } from "./client.js";
import { START, fromHash, isChanged, toHash, withoutChanges } from "./state.js";
import { Ladder } from "./ladder.js";
import { Heads, Pixels, SmallMap, Stage } from "./picture.js";
import { Prediction } from "./prediction.js";
import { Code, Neuron, Thumb } from "./code.js";
import { Tokens, Writing } from "./text.js";
import { Change } from "./change.js";
import { Take } from "./take.js";

const wants = (about, state, open) => {
  const parts = ["tokens", "prediction", "ladder", "maps"];
  if (open.over === "shares") parts.push("shares");
  if (open.over === "features" || open.over === "masks") parts.push("features");
  if (about[state.which] && about[state.which].lambda.some((v) => v !== null)) parts.push("code");
  if (state.neuron !== null) parts.push("neuron");
  if (open.angles) parts.push("angles");
  if (open.film) parts.push("film");
  return parts;
};

function App() {
  const [about, setAbout] = useState(null);
  const [answer, setAnswer] = useState(null);
  const [state, setState] = useState(() => fromHash(location.hash));
  const [open, setOpen] = useState({ over: "attention", angles: false, film: false, painting: false });
  const [error, setError] = useState("");
  const [live, setLive] = useState(false);
  const [uploaded, setUploaded] = useState(null);
  const asker = useRef(null);
  const toLast = useRef(false); // of a new text the last token is looked at: the first sees itself alone
  if (!asker.current) asker.current = new Asker((found) => {
    setAnswer(found);
    setLive(true);
    setError("");
    if (toLast.current && found.data.tokens.ids) setState((now) => ({ ...now, token: found.data.tokens.ids.length - 1 }));
    toLast.current = false;
  }, setError);

  const set = (given) => setState((now) => {
    const next = { ...now, ...given };
    if (given.ofText !== undefined) { next.text = about.data.texts[given.ofText]; delete next.ofText; }
    if (given.text !== undefined && given.token === undefined) { next.token = 0; toLast.current = true; }
    if (given.token !== undefined && next.neurons_of_tokens) next.neurons_of_tokens = [next.token];
    if (given.picture !== undefined && given.painted === undefined && given.picture !== now.picture) next.painted = [];
    return next;
  });

  useEffect(() => {
    const plain = !location.hash;
    let done = false;
    if (plain) firstView().then((first) => { if (first && !done) { setAbout(first.describe); setAnswer(first.answer); } }).catch(() => {});
    postUnpacked("describe", { state: { other: state.other } }).then((found) => {
      done = true;
      setAbout(found);
      const model = found.data.model;
      if (plain) set({ layer: Math.max(model.layers - 2, 0), ...(model.reads === "text" ? { text: found.data.texts[0] || "" } : {}) });
    }, (e) => setError(e.message));
    const restore = () => setState(fromHash(location.hash));
    addEventListener("hashchange", restore);
    return () => removeEventListener("hashchange", restore);
  }, []);

  useEffect(() => {
    if (!about || (about.data.model.reads === "text" && !state.text)) return;
    history.replaceState(null, "", location.pathname + toHash(state));
    asker.current.ask(state, wants(about.data, state, open));
  }, [about && about.data.model.name, state, open.over, open.angles, open.film]);

  useEffect(() => { // when an answer is on the screen, for those who measure how long that takes
    if (!answer || !live) return;
    requestAnimationFrame(() => { performance.clearMarks("drawn"); performance.mark("drawn"); });
  }, [answer]);

  const choose = async (name) => {
    try {
      const found = await postUnpacked("describe", { state: { other: name } });
      setAbout({ ...found });
      set({ other: name, which: name === "none" ? "model" : state.which });
    } catch (e) { setError(e.message); }
  };
  const upload = async (file) => {
    try {
      const { data, arrays } = await postUnpacked("upload", file);
      setUploaded(arrays.thumbnail);
      set({ picture: data.picture, painted: [] });
    } catch (e) { setError(e.message); }
  };
  const grow = async (count, temperature) => {
    let text = state.text;
    for (let i = 0; i < count; i++) {
      try {
        const { data } = await postUnpacked("grow", { state: { ...state, text }, temperature });
        text = data.text;
        set({ text, token: data.tokens - 1 });
      } catch (e) { setError(e.message); return; }
    }
  };

  if (!about || !answer) return html`<p class="status" role="status">${error || "Opening the model …"}</p>`;
  return html`<${Page} ...${{ about, answer, state, set, open, setOpen, error, live, choose, upload, uploaded, grow, setError, asker: asker.current }} />`;
}

// renders by itself, so that the page need not
function Status({ error, live, asker }) {
  const [busy, setBusy] = useState(asker.running);
  asker.onBusy = setBusy;
  return html`<span class="status" role="status">${error ? "" : !live ? "the stored first view; the model is being opened" : busy ? "computing …" : "live"}</span>`;
}

function Page({ about, answer, state, set, open, setOpen, error, live, choose, upload, uploaded, grow, setError, asker }) {
  const { model, other, others } = about.data, { data, arrays } = answer;
  const isText = model.reads === "text", changed = isChanged(state);
  const tokens = data.tokens, grid = isText ? null : tokens.grid, prefix = isText ? 0 : tokens.prefix;
  const which = state.which, target = which === "other" && other ? other : model;
  const kind = open.over === "shares" ? "signed" : "amount";
  const source = open.over === "shares" ? "shares" : "maps";
  const mapsOf = (side) => arrays[`${source}/${side}`];
  const layer = Math.min(state.layer, target.layers - 1), head = state.head;
  const row = (side) => {
    const array = mapsOf(side);
    if (!array || layer >= array.shape[0]) return null;
    const [, heads, n] = array.shape, start = layer * heads * n;
    if (head !== null && head < heads) return Array.from(array.values.subarray(start + head * n, start + (head + 1) * n));
    return Array.from({ length: n }, (_, i) => { let sum = 0; for (let h = 0; h < heads; h++) sum += array.values[start + h * n + i]; return sum / (source === "shares" ? 1 : heads); });
  };
  const whole = row(which), map = whole && (isText ? whole : whole.slice(prefix));
  const clamp = (value) => { const rest = state.neurons.filter(([l, n]) => l !== layer || n !== state.neuron); set({ neurons: value === null ? rest : [...rest, [layer, state.neuron, value]] }); };
  const off = (l, h) => state.heads_off.some(([a, b]) => a === l && b === h);
  const infos = (side) => ({ prefix, ...(data.maps[side] || {}), grid: isText ? null : (data.maps[side] || {}).grid || grid });
  const leftOut = Object.values(data.maps || {}).map((m) => m.left_out).filter(Boolean);
  // what is large is made anew only where what it shows is
  const at = { ...state, layer };
  const thumbs = useMemo(() => !isText && html`<div class="thumbs" role="group" aria-label="Pictures">${Array.from({ length: about.data.pictures }, (_, i) => html`<button class="thumb" key=${i} aria-pressed=${state.picture === i} aria-label="picture ${i}${about.data.labels[i] ? ", " + about.data.labels[i] : ""}" onClick=${() => set({ picture: i })}><${Thumb} array=${about.arrays.thumbnails} index=${i} /></button>`)}
          ${uploaded && html`<span class="thumb"><${Pixels} array=${uploaded} className="thumb-pixels" label="the picture that was opened" /></span>`}</div>`, [about, state.picture, uploaded]);
  const ladder = useMemo(() => html`<${Ladder} ladder=${data.ladder} angles=${open.angles && data.angles} state=${at} set=${set} changed=${changed} onAngles=${() => setOpen({ ...open, angles: !open.angles })} />`, [answer, open, layer, state.mode, which, changed]);
  const heads = useMemo(() => html`<div class="beside">${["model", "other"].map((side) => mapsOf(side) && html`<${Heads} key=${side} array=${mapsOf(side)} info=${infos(side)} state=${side === which ? at : { layer: -1 }} set=${(given) => set(side === which ? given : { ...withoutChanges(state), painted: state.painted, ...given, which: side })} kind=${kind} which=${side} name=${side === "model" ? model.name : other ? other.name : ""} off=${side === which ? off : () => false} />`)}</div>`, [answer, about, layer, head, which, kind, state.heads_off, state.painted]);
  const code = useMemo(() => data.code && html`<${Code} key=${`${which}-${layer}`} code=${data.code} firing=${arrays["code/firing"]} state=${at} set=${set} grid=${grid} film=${open.film && data.film} filmCodes=${arrays["film/codes"]} onFilm=${() => setOpen({ ...open, film: !open.film })} />`, [answer, open, layer, which, state.token, state.neuron]);
  return html`
  <header><h1>CRATE explorer</h1><p class="note">${model.name} (${model.class}, ${model.layers} layers, ${model.heads} heads, ${model.parameters.toLocaleString("en")} parameters) on ${about.data.on}</p>
    <div class="row"><label>beside it <select value=${state.other || (other ? other.name : "none")} onChange=${(e) => choose(e.target.value)}><option value="none">nothing</option>${others.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
      ${others.filter((n) => n.startsWith("checkpoint-")).length > 1 && html`<${Film} others=${others} choose=${choose} />`}
      ${other && html`<label>look into and change <select value=${which} onChange=${(e) => set({ ...withoutChanges(state), painted: state.painted, which: e.target.value, neuron: null, layer: 0, head: null })}><option value="model">${model.name}</option><option value="other">${other.name}</option></select></label>`}
      <${Status} ...${{ error, live, asker }} /></div>
    ${error && html`<p class="error" role="alert">${error}</p>`}</header>
  <div class="columns">
    <div>
      <section aria-labelledby="input"><h2 id="input">${isText ? "The text" : "The picture"}</h2>
        ${isText ? html`<${Writing} state=${state} set=${set} texts=${about.data.texts} grow=${grow} writes=${target.writes} /><${Tokens} tokens=${tokens} state=${state} set=${set} map=${open.over === "nothing" ? null : map} kind=${kind} />`
          : html`<${Stage} picture=${arrays["tokens/picture"]} grid=${grid} prefix=${prefix} state=${state} set=${set} painting=${open.painting} kind=${kind}
              map=${open.over === "attention" || open.over === "shares" ? map : open.over === "masks" ? maskOf(arrays[`features/${which}/masks`], head, grid) : null} />
            ${open.over === "features" && arrays[`features/${which}/colors`] && html`<${Pixels} array=${arrays[`features/${which}/colors`]} className="pixels features" label="three principal components of the subspace features as colours" />`}
            <div class="row">${prefix > 0 && html`<button aria-pressed=${state.token === 0} onClick=${() => set({ token: 0 })}>class token</button>`}
              <button aria-pressed=${open.painting} onClick=${() => setOpen({ ...open, painting: !open.painting })}>paint over</button></div>`}
        <label>over it <select value=${open.over} onChange=${(e) => setOpen({ ...open, over: e.target.value })}><option value="attention">${data.maps[which] && data.maps[which].of === "memberships" ? "membership of tokens in heads" : "attention of the chosen token"}</option><option value="shares">each token's share of the change of R^c</option>${!isText && html`<option value="masks">mask of the attention (60 % of it)</option><option value="features">components of the subspace features</option>`}<option value="nothing">nothing</option></select></label>
        <p class="note">${open.over === "shares" ? "Blue compresses, orange expands (nats, of Z as it is)." : open.over === "attention" ? "Dark is little, yellow is much." : ""} Layer ${layer}, ${head === null ? "all heads" : "head " + head}${head !== null ? html` <button onClick=${() => set({ head: null })}>all heads</button>` : ""}</p>
        ${thumbs}${!isText && html`
          <label>your own picture <input type="file" accept="image/*" onChange=${(e) => e.target.files[0] && upload(e.target.files[0])} /></label>`}
      </section>
      <section aria-labelledby="prediction"><h2 id="prediction">What it says</h2>${["model", "other"].map((side) => data.prediction[side] && html`<${Prediction} key=${side} found=${data.prediction[side]} array=${arrays[`prediction/${side}`]} changed=${state.painted.length > 0 || (changed && side === which)} />`)}
        ${!data.prediction.model && html`<p class="note">${model.name} has no head that predicts.</p>`}</section>
      <${Change} about=${target} state=${{ ...state, layer }} set=${set} changed=${changed} reset=${() => set(withoutChanges(state))} />
      <${Take} state=${state} onError=${setError} hasMaps=${!isText && !leftOut.length} />
    </div>
    <div>
      ${ladder}
      <section aria-labelledby="heads"><h2 id="heads">Every head of every layer</h2><p class="note">${open.over === "shares" ? "Each token's share of the change of R^c of each head." : "What the chosen token attends to."} Choose one to see it over the ${isText ? "text" : "picture"}.</p>
        ${leftOut.map((words) => html`<p class="note left-out">${words}</p>`)}
        ${heads}</section>
      <div class="pair">${code}
      <${Neuron} neuron=${data.neuron} state=${{ ...state, layer }} set=${set} thumbnails=${about.arrays.thumbnails} grid=${grid} prefix=${prefix} clamp=${clamp} isText=${isText} /></div>
    </div>
  </div>`;
}

function maskOf(array, head, [rows, columns]) {
  if (!array) return null;
  const size = rows * columns, heads = array.shape[0];
  const of = head === null ? [...Array(heads).keys()] : [Math.min(head, heads - 1)];
  return Array.from({ length: size }, (_, i) => of.reduce((sum, h) => sum + array.values[h * size + i], 0) / of.length);
}

// checkpoints of a run as a film over training
function Film({ others, choose }) {
  const [playing, setPlaying] = useState(false);
  const steps = others.filter((name) => name.startsWith("checkpoint-"));
  useEffect(() => {
    if (!playing) return undefined;
    let index = 0, stopped = false;
    const next = async () => {
      if (stopped) return;
      await choose(steps[index]);
      index += 1;
      if (index < steps.length) setTimeout(next, 900);
      else setPlaying(false);
    };
    next();
    return () => { stopped = true; };
  }, [playing]);
  return html`<button aria-pressed=${playing} onClick=${() => setPlaying(!playing)}>${playing ? "stop" : "play the checkpoints"}</button>`;
}

render(html`<${App} />`, document.getElementById("page"));
