// The state of the page: what service.State reads, in the address as a link that restores it.

export const START = {
  picture: 0, text: "", painted: [], lambda: {}, eta: {}, heads_off: [], neurons: [], neurons_of_tokens: null,
  which: "model", other: "", mode: "official", layer: 0, head: null, token: 0, neuron: null,
};

const CHANGES = ["painted", "lambda", "eta", "heads_off", "neurons", "neurons_of_tokens"];

export const isChanged = (state) =>
  CHANGES.some((name) => JSON.stringify(state[name]) !== JSON.stringify(START[name]));

export const withoutChanges = (state) => {
  const next = { ...state };
  for (const name of CHANGES) next[name] = START[name];
  return next;
};

export function toHash(state) {
  const given = {};
  for (const name of Object.keys(START))
    if (JSON.stringify(state[name]) !== JSON.stringify(START[name])) given[name] = state[name];
  return Object.keys(given).length ? "#" + encodeURIComponent(JSON.stringify(given)) : "";
}

export function fromHash(hash) {
  try {
    const given = JSON.parse(decodeURIComponent(hash.slice(1) || "{}"));
    const state = { ...START };
    for (const name of Object.keys(START)) if (name in given) state[name] = given[name];
    return state;
  } catch {
    return { ...START };
  }
}
