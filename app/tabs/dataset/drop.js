// The place where pictures are dropped. Files go one by one to a route that keeps their folders; Python is told at last.
const zone = element.querySelector(".drop"), sending = element.querySelector(".sending");
const bar = sending.querySelector("progress"), words = sending.querySelector("span");
const AT_ONCE = 3, PACK_FILES = 200, PACK_BYTES = 2 ** 23;  // small files share a request
const queued = zone.querySelector(".queued");
let going = null;  // what is being sent: { requests, stopped }
let waiting = null;  // the upload that was begun last: the next one waits for it

const mebi = bytes => (bytes / 2 ** 20).toFixed(bytes < 2 ** 24 ? 1 : 0) + " MiB";

function read(request) {  // null where it is no JSON: a proxy, or a program that failed, answers in other ways
    try { return JSON.parse(request.responseText || "{}"); } catch { return null; }
}

function say(text) {
    sending.hidden = false;
    words.textContent = text;
}

function send(method, address, body, going, progress) {
    return new Promise((done, failed) => {
        const request = new XMLHttpRequest();
        request.open(method, address);
        request.upload.onprogress = event => progress?.(event.loaded);
        request.onload = () => {
            going.requests.delete(request);
            const answer = read(request), said = typeof answer?.detail === "string" && answer.detail;
            if (request.status < 300 && answer) done(answer);
            else failed(new Error(said || `The program answered ${request.status} ${request.statusText}. Send it again.`));
        };
        request.onerror = () => failed(new Error("The connection was lost."));
        request.onabort = () => failed(new Error("Cancelled: nothing was added."));
        going.requests.add(request);
        if (typeof body === "string") request.setRequestHeader("Content-Type", "application/json");
        request.send(body);
    });
}

// The set is the one that is seen when the drop begins; `look` finds the files: [[name with folders, File]].
function begin(look) {
    const into = document.querySelector("#dataset-set input")?.value ?? "";
    const last = waiting;
    waiting = (async () => {
        if (going) queued.textContent = "Another upload waits until this one is sent.";
        await last;
        queued.textContent = "";
        try { await upload(await found, into); } catch (error) { say(`It could not be read (${error.message}).`); }
    })();
    const found = look();
    found.catch(() => {});  // it is told above, in its turn
}

async function upload(found, into) {
    if (!found.length) return say("There is no file in it. Drop pictures, folders or zips.");
    going = { requests: new Set(), stopped: false };
    sending.hidden = false;
    let token = null;
    try {
        words.textContent = `${found.length} files`;
        const plan = JSON.stringify({ names: found.map(([name]) => name), sizes: found.map(([, file]) => file.size), into });
        const begun = await send("POST", "uploads", plan, going);
        token = begun.token;
        await sendAll(token, begun.wanted, found, going);
        words.textContent = "reading the pictures";
        while (!document.documentElement.dataset.live) await new Promise(later => setTimeout(later, 50));
        trigger("sent", { token });
        sending.hidden = true;
    } catch (error) {
        going.stopped = true;
        going.requests.forEach(request => request.abort());
        words.textContent = error.message;
        if (token) fetch(`uploads/${token}`, { method: "DELETE" }).catch(() => {});  // it is dropped after a day anyway
    } finally {
        going = null;
    }
}

function packs(wanted, found) {  // of numbers without a gap
    const out = [];
    let bytes = 0;
    for (const number of wanted) {
        const pack = out.at(-1), size = found[number][1].size;
        if (pack && pack.at(-1) + 1 === number && pack.length < PACK_FILES && bytes + size <= PACK_BYTES) {
            pack.push(number); bytes += size;
        } else { out.push([number]); bytes = size; }
    }
    return out;
}

async function sendAll(token, wanted, found, going) {
    const total = wanted.reduce((sum, number) => sum + found[number][1].size, 0), sent = new Map();
    const left = packs(wanted, found);
    let done = 0;
    const show = () => {
        const bytes = [...sent.values()].reduce((sum, one) => sum + one, done);
        bar.max = total || 1; bar.value = bytes;
        words.textContent = `${mebi(bytes)} of ${mebi(total)} sent`;
    };
    const one = async () => {
        while (left.length && !going.stopped) {
            const pack = left.shift(), first = pack[0], body = new Blob(pack.map(number => found[number][1]));
            const progress = loaded => { sent.set(first, loaded); show(); };
            await send("PUT", `uploads/${token}/${first}/${pack.length}`, body, going, progress);
            sent.delete(first); done += body.size; show();
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
}

async function walk(entry, out) {  // what was dropped: a file, or a folder with all below it
    if (entry.isFile) return out.push([entry.fullPath.slice(1), await new Promise((done, no) => entry.file(done, no))]);
    const reader = entry.createReader();
    for (;;) {  // it hands out a hundred at a time
        const some = await new Promise((done, no) => reader.readEntries(done, no));
        if (!some.length) return;
        for (const inner of some) await walk(inner, out);
    }
}

const take = input => {
    const found = Array.from(input.files, file => [file.webkitRelativePath || file.name, file]);
    if (found.length) begin(async () => found);
    input.value = "";
};
element.addEventListener("change", event => take(event.target));
element.querySelectorAll("input[type=file]").forEach(take);  // what was chosen before anybody listened
element.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over"); });
element.addEventListener("dragleave", () => zone.classList.remove("over"));
element.addEventListener("drop", event => {
    event.preventDefault();
    zone.classList.remove("over");
    const entries = Array.from(event.dataTransfer.items, item => item.webkitGetAsEntry()).filter(Boolean);
    begin(async () => {  // the entries must be taken before the event is over
        const out = [];
        for (const entry of entries) await walk(entry, out);
        return out;
    });
});
element.querySelector(".ways").addEventListener("click", event => event.target.nextElementSibling?.click());
window.addEventListener("beforeunload", event => { if (going) event.preventDefault(); });
sending.querySelector("button").addEventListener("click", () => {
    if (going) { going.stopped = true; going.requests.forEach(request => request.abort()); }
    else sending.hidden = true;
});
