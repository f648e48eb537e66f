// Fills in what the list of audits says of them as it is computed; without this script, its link "Look again" does.
"use strict";

async function lookAgain(runs) {
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const now = page.getElementById("runs");
  if (now.dataset.awaited !== runs.dataset.awaited) {
    const ticked = [...runs.querySelectorAll(":checked")].map((box) => box.value);
    for (const box of now.querySelectorAll("[type=checkbox]")) box.checked = ticked.includes(box.value);
    runs.replaceWith(now);
  }
  wait();
}

function wait() {
  const runs = document.getElementById("runs");
  if (runs && runs.dataset.awaited) setTimeout(lookAgain, 1500, runs);
}

wait();
