// Plays a recording of a desktop: pictures and what was done, on one line of time.
// Everything is set as text, never as HTML.
const base = location.pathname.replace(/\/player$/, "");
const at = (id) => document.getElementById(id);
const [screen, seek, play, speed, clock, list, about] =
  ["screen", "seek", "play", "speed", "clock", "marks", "about"].map(at);

let frames = [];
let rows = [];
let known = 0;
let length = 0;
let now = 0;
let shown = 0;
let started = null; // of playing: [clock of the page in ms, time of the recording in s]
let running = false;

const words = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  return Math.floor(whole / 60) + ":" + String(whole % 60).padStart(2, "0");
};
// The last entry that is not later; -1 before the first.
const lastAt = (entries, time) => {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle].at_s <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
};
const picture = (number) => base + "/frames/" + number;

const show = (time) => {
  now = Math.min(Math.max(0, time), length);
  const index = Math.max(0, lastAt(frames, now));
  const frame = frames[index];
  if (frame && frame.number !== shown) {
    shown = frame.number;
    screen.src = picture(shown);
    for (const next of frames.slice(index + 1, index + 4)) new Image().src = picture(next.number);
  }
  seek.value = String(now);
  clock.textContent = words(now) + " / " + words(length);
  const current = lastAt(rows, now);
  rows.forEach((row, number) => row.element.classList.toggle("now", number === current));
  if (started && rows[current]) rows[current].element.scrollIntoView({ block: "nearest" });
};
const pause = () => {
  started = null;
  play.textContent = "Play";
};
const step = (clockMs) => {
  if (!started) return;
  show(started[1] + ((clockMs - started[0]) / 1000) * Number(speed.value));
  if (now >= length && !running) pause();
  else requestAnimationFrame(step);
};
const begin = () => {
  started = [performance.now(), now >= length ? 0 : now];
  play.textContent = "Pause";
  requestAnimationFrame(step);
};
const jump = (time) => {
  if (started) started = [performance.now(), time];
  show(time);
};

const told = (mark) => {
  if (mark.kind === "control") {
    return mark.holder
      ? "A person takes control" + (mark.private ? ", in private: nothing is recorded." : ".")
      : "The agent has control (" + mark.reason + ").";
  }
  const { action, ...fields } = mark.action;
  const given = Object.values(fields).map((value) =>
    typeof value === "string" ? value : JSON.stringify(value));
  return [mark.person ? "Person:" : "Agent:", action, ...given].join(" ")
    + (mark.is_error ? " (failed)" : "");
};
const add = (mark) => {
  if (mark.kind === "frame") {
    frames.push(mark);
    return;
  }
  const button = document.createElement("button");
  button.textContent = words(mark.at_s) + "  " + told(mark);
  if (mark.call_id) button.title = "tool call " + mark.call_id;
  button.addEventListener("click", () => jump(mark.at_s));
  const element = document.createElement("li");
  element.append(button);
  list.append(element);
  rows.push({ at_s: mark.at_s, element });
};
const load = async () => {
  let more = true;
  while (more) {
    const reply = await fetch(base + "?skip=" + known);
    if (!reply.ok) throw new Error((await reply.json()).detail || String(reply.status));
    const page = await reply.json();
    page.marks.forEach(add);
    known += page.marks.length;
    more = Boolean(page.has_more) && page.marks.length > 0;
    const recording = page.recording;
    running = recording.state === "recording";
    const last = page.marks.length ? page.marks[page.marks.length - 1].at_s : 0;
    length = Math.max(length, recording.duration_s || 0, last);
    about.textContent = recording.width + "×" + recording.height + " · "
      + new Date(recording.started_at).toLocaleString()
      + (running ? " · still running" : recording.reason ? " · " + recording.reason : "");
  }
  seek.max = String(length);
  show(now);
  document.body.dataset.frames = String(frames.length);
  if (running) setTimeout(again, 2000);
};
const again = () => load().catch((error) => { about.textContent = error.message; });

play.addEventListener("click", () => (started ? pause() : begin()));
speed.addEventListener("change", () => { if (started) started = [performance.now(), now]; });
seek.addEventListener("input", () => jump(Number(seek.value)));
addEventListener("keydown", (event) => {
  if (event.target !== document.body) return;
  const marks = [...frames, ...rows].map((mark) => mark.at_s).sort((a, b) => a - b);
  const keys = {
    " ": () => (started ? pause() : begin()),
    ArrowLeft: () => jump(marks.filter((time) => time < now - 0.001).pop() || 0),
    ArrowRight: () => jump(marks.find((time) => time > now + 0.001) ?? length),
    Home: () => jump(0),
    End: () => jump(length),
  };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
again();
