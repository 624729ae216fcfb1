"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** An element; what it says is always text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A stored picture; one smaller than it is shown keeps its pixels. */
function picture(file, alt, width, eager = false) {
  const small = width < 256 ? "small" : null;
  return make("img", { src: file, alt, class: small, loading: eager ? "eager" : "lazy", decoding: "async", draggable: "false" });
}

/** Whether a key is meant for a field; a list takes letters and digits to choose by. */
const isTyping = (target, key) => target.matches("input[type=search], input[type=text], textarea") || (target.matches("select") && /\w/.test(key));
