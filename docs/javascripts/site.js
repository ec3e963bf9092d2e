// What the theme leaves out: the copy button takes commands without prompts and output, and people without a mouse or a
// screen find names on the copy buttons and can scroll wide tables. The theme adds its parts while one reads, so they are
// looked for after each change.
const PROMPT = /^(\$|>>>|\.\.\.) ?/;

function commands(text) {
  let goesOn = false;
  const lines = text.split("\n").filter((line) => {
    const taken = goesOn || PROMPT.test(line);
    goesOn = taken && line.endsWith("\\");
    return taken;
  });
  return lines.map((line) => line.replace(PROMPT, "")).join("\n");
}

function complete() {
  document.querySelectorAll(".highlight:not([data-copy]):has(.gp)").forEach((block) => {
    block.dataset.copy = commands(block.querySelector("code").textContent);
  });
  document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((nav, index) => {
    nav.setAttribute("aria-label", `Code ${index + 1}`);
  });
  document.querySelectorAll(".md-code__button:not([aria-label])").forEach((button) => {
    button.setAttribute("aria-label", button.title);
  });
  document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach((scrolling) => {
    scrolling.tabIndex = 0;
  });
}

new MutationObserver(complete).observe(document.documentElement, { childList: true, subtree: true });
document.addEventListener("DOMContentLoaded", complete);
