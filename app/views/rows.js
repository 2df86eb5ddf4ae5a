// The list of runs: what is clicked is told to Python; the keyboard stays at the run it was at, wherever that moves.
let last = null;

element.addEventListener("click", event => {
    const button = event.target.closest("[data-act]");
    if (!button) return;
    const run = button.closest("[data-run]").dataset.run, act = button.dataset.act;
    last = { run, act };
    trigger("act", { act, run });
});

element.addEventListener("focusin", event => {
    const button = event.target.closest("[data-act]");
    if (button && button.closest("[data-run]")) last = { run: button.closest("[data-run]").dataset.run, act: button.dataset.act };
});
element.addEventListener("focusout", event => event.relatedTarget && !element.contains(event.relatedTarget) && (last = null));

watch("value", () => {
    if (!last || ![document.body, null].includes(document.activeElement) && !element.contains(document.activeElement)) return;
    const row = [...element.querySelectorAll("[data-run]")].find(one => one.dataset.run === last.run);
    const button = row?.querySelector(`[data-act="${last.act}"]`) ?? row?.querySelector("[data-act]");
    if (button && button !== document.activeElement) button.focus({ preventScroll: true });
});
