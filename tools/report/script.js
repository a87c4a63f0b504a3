
// Tips that come at once and stay readable; without this the browser shows the same <title>s, later.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;

  const hide = () => {
    if (shown) shown.element.append(shown.title);
    shown = null;
    tip.hidden = true;
  };

  const place = (event) => {
    const room = 14;
    const box = tip.getBoundingClientRect();
    const right = event.clientX + room + box.width > document.documentElement.clientWidth;
    const below = event.clientY + room + box.height > document.documentElement.clientHeight;
    tip.style.left = `${Math.max(4, right ? event.clientX - room - box.width : event.clientX + room)}px`;
    tip.style.top = `${Math.max(4, below ? event.clientY - room - box.height : event.clientY + room)}px`;
  };

  document.addEventListener("pointermove", (event) => {
    const element = event.target instanceof SVGElement ? event.target.closest("rect, text") : null;
    if (!shown || shown.element !== element) {
      hide();
      const title = element && element.querySelector(":scope > title");
      if (title) {
        tip.textContent = title.textContent;
        tip.hidden = false;
        title.remove();  // or the browser would show it too
        shown = { element, title };
      }
    }
    if (shown) place(event);
  });
  document.addEventListener("pointerleave", hide);
  document.addEventListener("scroll", hide, true);
})();
