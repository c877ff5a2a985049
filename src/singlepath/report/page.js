"use strict";
(() => {
  // Folded parts are opened for the printer and folded again behind it.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
  });

  // The block under the pointer in words, beneath its drawing.
  for (const drawing of document.querySelectorAll("svg.network")) {
    const line = document.createElement("p");
    line.className = "hint";
    line.setAttribute("aria-hidden", "true");
    const idle = "Point at a block, or touch it, to read it in full.";
    line.textContent = idle;
    drawing.parentElement.after(line);
    const show = (event) => {
      const group = event.target.closest("g.block, g.rest");
      line.textContent = group ? group.querySelector("title").textContent : idle;
    };
    drawing.addEventListener("pointerover", show);
    drawing.addEventListener("click", show);
    drawing.addEventListener("pointerleave", () => (line.textContent = idle));
  }

  // Copying needs a secure context; where there is none the button stays hidden.
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("button.copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 1500);
      });
    }
  }
})();
