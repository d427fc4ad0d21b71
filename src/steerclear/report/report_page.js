"use strict";
// What all parts of the page share: its data, its colours, and which runs are shown. Names come in by textContent alone.

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const root = document.documentElement;
const media = matchMedia("(prefers-color-scheme: dark)");
const hidden = new Set(); // places of runs that are not drawn
let strong = null; // place of the run that the reader points at

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function shortened(text, length) { return text.length > length ? `${text.slice(0, length - 1)}…` : text; }

// A colour of the style sheet as the browser resolves it now: light-dark() is of no use to a drawing.
function colour(name) {
  const probe = at("top").appendChild(make("i"));
  probe.style.color = `var(--${name})`;
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

function badge(place) {
  const mark = make("i", `badge c${place % 8}`);
  mark.append(make("b", "", place + 1));
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

const isDark = () => (root.style.colorScheme || (media.matches ? "dark" : "light")) === "dark";
at("theme").addEventListener("click", () => {
  root.style.colorScheme = isDark() ? "light" : "dark";
  redraw();
});
media.addEventListener("change", () => redraw());
