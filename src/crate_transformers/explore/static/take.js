// Take it along: a link, figures, numbers, and the Python that prints the same numbers.
import { html, useState } from "./vendor/htm-preact.js";
import { post } from "./client.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function Take({ state, onError, hasMaps }) {
  const [script, setScript] = useState(null);
  const [copied, setCopied] = useState("");
  const attempt = (work) => work().catch((error) => onError(error.message));
  const file = (path, body, name) => attempt(async () => save(await (await post(path, { state, ...body })).blob(), name));
  const python = () => attempt(async () => setScript(await (await post("script", { state })).text()));
  const copy = (text, what) => navigator.clipboard ? navigator.clipboard.writeText(text).then(() => setCopied(what), () => setCopied("select it and copy")) : setCopied("select it and copy");
  return html`<section aria-labelledby="take"><h2 id="take">Take it along</h2>
    <label>link to this view <input readonly value=${location.href} onFocus=${(e) => e.target.select()} /></label>
    <div class="row"><button onClick=${() => copy(location.href, "link copied")}>copy link</button>
      <button onClick=${() => file("figure", { of: "ladder", kind: "png" }, "ladder.png")}>ladder.png</button><button onClick=${() => file("figure", { of: "ladder", kind: "svg" }, "ladder.svg")}>ladder.svg</button>
      ${hasMaps && html`<button onClick=${() => file("figure", { of: "maps", kind: "png" }, "maps.png")}>maps.png</button><button onClick=${() => file("figure", { of: "maps", kind: "svg" }, "maps.svg")}>maps.svg</button>`}
      <button onClick=${() => file("table", { kind: "json" }, "ladder.json")}>ladder.json</button><button onClick=${() => file("table", { kind: "csv" }, "ladder.csv")}>ladder.csv</button>
      <button aria-expanded=${script !== null} onClick=${() => (script === null ? python() : setScript(null))}>Python</button></div>
    <p role="status" class="note">${copied}</p>
    ${script !== null && html`<pre tabindex="0" aria-label="Python that prints these numbers">${script}</pre><div class="row"><button onClick=${() => copy(script, "script copied")}>copy script</button><button onClick=${() => save(new Blob([script]), "explore.py")}>explore.py</button></div>`}
  </section>`;
}
