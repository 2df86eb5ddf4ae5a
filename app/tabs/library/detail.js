// The open adapter. `element` is its place in the page, `trigger` calls Python; the id goes along, so that what is asked
// for is done to the one that was seen.
const id = () => element.querySelector(".opened")?.dataset.id || "";
const value = name => element.querySelector(`#library-${name}`)?.value || "";
const stamp = () => JSON.stringify([value("tags"), value("note")]);
const ACTS = {
    go: from => trigger("go", { to: from.dataset.to, name: from.dataset.name }),
    use: () => trigger("alter", { what: "use", id: id() }),
    remove: () => trigger("alter", { what: "remove", id: id() }),
    restore: from => trigger("alter", { what: "restore", id: from.dataset.place }),
    send: () => trigger("send", { id: id(), to: value("send-to"), link: element.querySelector("#library-link").checked }),
};

element.addEventListener("click", event => {
    const from = event.target.closest("[data-act]");
    if (!from || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    ACTS[from.dataset.act]?.(from);
});
element.addEventListener("change", event => {
    if (event.target.id === "library-versions") trigger("alter", { what: "version", id: event.target.value });
});

let before = "";  // of tags and note, as they were when one of them was entered
element.addEventListener("focusin", event => {
    if (event.target.closest(".own") && !event.relatedTarget?.closest?.(".own")) before = stamp();
});
element.addEventListener("focusout", event => {
    if (!event.target.closest(".own") || before === stamp()) return;
    before = stamp();
    trigger("note", { id: id(), tags: value("tags"), note: value("note") });
});
