"use strict";
// Everything is readable without this script: it adds cards, arrow keys and the arrows of the scan paths.
const card = document.getElementById("card");
const tokens = document.querySelectorAll(".t[title]");
for (const token of tokens) {
  token.dataset.card = token.title; // else the browser's own card would cover ours
  token.removeAttribute("title");
}

function show(token) {
  const list = document.createElement("dl");
  for (const line of token.dataset.card.split("\n")) {
    const [name, value] = line.split("\t");
    list.append(Object.assign(document.createElement("dt"), { textContent: name }));
    list.append(Object.assign(document.createElement("dd"), { textContent: value }));
  }
  card.replaceChildren(list);
  card.hidden = false;
  const at = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const below = at.bottom + 8 + card.offsetHeight < innerHeight;
  const top = below ? at.bottom + 8 : at.top - card.offsetHeight - 8;
  card.style.left = `${Math.max(8, Math.min(at.left, innerWidth - card.offsetWidth - 8))}px`;
  card.style.top = `${Math.max(8, Math.min(top, innerHeight - card.offsetHeight - 8))}px`;
  light(token, true);
}

function hide(token) {
  card.hidden = true;
  light(token, false);
}

// the token behind a subword, and the arrows at a token
function light(token, on) {
  document.getElementById(token.dataset.like)?.classList.toggle("hit", on);
  if (!token.id) return;
  for (const arrow of document.querySelectorAll(`[data-from="${token.id}"], [data-to="${token.id}"]`)) {
    arrow.classList.toggle("lit", on);
  }
}

const within = (event) => event.target.closest?.(".t[data-card]");
document.addEventListener("mouseover", (event) => within(event) && show(within(event)));
document.addEventListener("mouseout", (event) => within(event) && hide(within(event)));
document.addEventListener("focusin", (event) => within(event) && show(within(event)));
document.addEventListener("focusout", (event) => within(event) && hide(within(event)));
document.addEventListener("keydown", (event) => {
  const token = within(event);
  if (event.key === "Escape") card.hidden = true;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!token || !step) return;
  const all = [...token.parentElement.querySelectorAll(".t")];
  const next = all[all.indexOf(token) + step];
  if (!next) return;
  token.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
});

// Arrows from each token of a path to the next, from where the text really stands: no font has to be known.
function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function arrow(from, to, box) {
  const a = [...from.getClientRects()].at(-1), b = to.getClientRects()[0];
  if (!a || !b) return [];
  const [x1, x2] = [(a.left + a.right) / 2 - box.left, (b.left + b.right) / 2 - box.left];
  const y2 = b.top - box.top;
  let line;
  if (Math.abs(a.top - b.top) < a.height / 2) {
    const y1 = a.top - box.top, rise = Math.min(13, 5 + Math.abs(x2 - x1) / 12);
    line = `M${x1} ${y1}C${x1} ${y1 - rise} ${x2} ${y2 - rise} ${x2} ${y2}`;
  } else {
    const y1 = a.bottom - box.top, bend = Math.max(9, Math.min(26, (y2 - y1) / 2));
    line = `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
  }
  const ends = { "data-from": from.id, "data-to": to.id };
  const kind = from.dataset.s === to.dataset.s ? "hop run" : "hop";
  return [
    element("path", { ...ends, class: kind, d: line }),
    element("path", { class: "tip", d: `M${x2} ${y2}l-3.2 -6h6.4z` }),
  ];
}

function draw() {
  for (const code of document.querySelectorAll(".code")) {
    const box = code.getBoundingClientRect();
    const stops = [...code.querySelectorAll(".t.p")];
    const drawn = stops.slice(1).flatMap((stop, i) => arrow(stops[i], stop, box));
    code.querySelector("svg").replaceChildren(...drawn);
  }
}

document.getElementById("arrows")?.addEventListener("change", (event) => {
  document.body.classList.toggle("plain", !event.target.checked);
});
addEventListener("resize", draw);
document.fonts?.ready.then(draw);
draw();
