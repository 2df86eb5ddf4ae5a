// The samples of a run as a film: all pictures of a step at once, from the first to the last. Python is not asked.
const PAUSE = 450;  // ms that a step is shown for
let run = "", step = -1, newest = -1, playing = null;  // what is shown, and the play that goes on
const film = () => element.querySelector(".film");
const steps = () => JSON.parse(film().dataset.steps);
const figures = () => [...element.querySelectorAll(".cells figure")];
const source = (figure, at) => JSON.parse(figure.dataset.frames)[at] ?? "";

function show(at) {
    const every = steps(), input = element.querySelector("input[type=range]");
    step = every[at];
    if (input) {
        input.value = at;
        input.setAttribute("aria-valuetext", `step ${step}`);
    }
    element.querySelector("output").textContent = `step ${step}${film().dataset.marked === String(step) ? ` · ${film().dataset.mark}` : ""}`;
    for (const figure of figures()) {
        const wanted = source(figure, at), picture = figure.querySelector("img");
        figure.style.visibility = wanted ? "visible" : "hidden";
        if (wanted && picture.getAttribute("src") !== wanted) picture.src = wanted;
    }
    ahead(at + 1);
}

async function ahead(at) {  // so that the next step is there when it is its turn
    const wanted = figures().map(figure => source(figure, at)).filter(Boolean);
    await Promise.all(wanted.map(address => {
        const picture = new Image();
        picture.src = address;
        return picture.decode().catch(() => {});
    }));
}

async function play() {
    const mine = playing = {};
    mark();
    let at = steps().indexOf(step);
    if (at >= steps().length - 1) at = -1;
    while (mine === playing && film() && ++at < steps().length) {
        await ahead(at);
        if (mine !== playing || !film()) break;
        show(at);
        await new Promise(resolve => setTimeout(resolve, PAUSE));
    }
    if (mine === playing) stop();
}

function stop() {
    playing = null;
    mark();
}

function mark() {
    const button = element.querySelector(".play");
    if (!button) return;
    button.textContent = playing ? "❚❚" : "▶";
    button.setAttribute("aria-label", playing ? "Pause" : "Play: watch it learn");
}

element.addEventListener("input", event => {
    if (!event.target.matches("input[type=range]")) return;
    stop();
    show(Number(event.target.value));
});
element.addEventListener("click", event => {
    if (event.target.closest(".play")) return playing ? stop() : play();
    const picture = event.target.closest("figure button")?.querySelector("img");
    if (picture) enlarge(picture);
});

function enlarge(picture) {
    const dialog = document.createElement("dialog"), large = new Image(), words = document.createElement("p");
    dialog.className = "enlarged";
    large.src = picture.getAttribute("src").replace("/film?", "/large?");
    large.alt = picture.alt;
    words.textContent = `${picture.alt} · step ${step}`;
    dialog.append(large, words);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
}

// A new sheet has come, or another run is shown. Who looks at an older step stays there, who looks at the last sees the
// next.
watch("value", () => {
    if (!film()) return stop();
    const every = steps(), known = every.indexOf(step), same = run === film().dataset.run;
    if (!same) stop();
    mark();
    show(same && known >= 0 && (playing || step !== newest) ? known : every.length - 1);
    [run, newest] = [film().dataset.run, every.at(-1)];
});
