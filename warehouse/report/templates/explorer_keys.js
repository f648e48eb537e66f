// Keys of a page: an element with data-key is what that key does. While somebody writes, keys are letters.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("textarea, select, input:not([type=checkbox])");
  if (field) {
    if (event.key === "Escape") field.blur();
    return;
  }
  const meant = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!meant) return;
  event.preventDefault();
  if (meant.matches("textarea")) meant.focus();
  else meant.click();
});
