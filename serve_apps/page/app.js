// The page from the file that is chosen to the result that is deleted.

import { CleanRecording } from "./clean_file.js";
import { LabelRules } from "./clean_label.js";
import { at, bytesText, make } from "./dom.js";
import { explain, STAGES_OF_WORK } from "./messages.js";
import { showCleaning, showInspection } from "./recording_view.js";
import { deleteAll, showResults } from "./results.js";
import { call, callJson, followJob, patiently, ServiceError } from "./service.js";
import { forgetUpload, Upload } from "./upload.js";

const STEPS = ["choose", "clean", "upload", "look", "job", "results", "deleted"];
const ID = /^[a-z0-9]{26}$/;

const night = { recording: null, upload: null, uploadId: null, jobId: null };
let info = null;
let rules = null;
let controller = new AbortController(); // of what the page is waiting for
let again = null; // what Try again does
let removing = false;

function show(step, { focus = true } = {}) {
  for (const name of STEPS) at(`step-${name}`).hidden = name !== step;
  const here = STEPS.indexOf(step);
  for (const item of at("steps").children) {
    const place = STEPS.indexOf(item.dataset.step);
    item.classList.toggle("past", place < here);
    if (place === here) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  hideError();
  tell("");
  const title = at(`${step}-title`);
  document.title = `${title.textContent} - SleepMaMi`;
  if (focus) title.focus();
}

function tell(text) {
  at("status").textContent = text;
}

function hideError() {
  at("error").hidden = true;
  again = null;
}

/** Tell of a failure; `retry` is what Try again does, `more` is said behind the advice. */
function fail(error, retry = null, more = "") {
  if (error.name === "AbortError") return;
  if (!(error instanceof Error) || !("code" in error) || error instanceof DOMException) {
    if (!(error instanceof DOMException)) console.error(error); // our own mistake
    error = new ServiceError(error instanceof DOMException ? "file_unreadable" : "internal_error");
  }
  tell("");
  const told = explain(error);
  at("error-title").textContent = told.title;
  const found = error.detail ? `Not valid: ${error.detail}.` : "";
  at("error-advice").textContent = [told.advice, found, more].filter(Boolean).join(" ");
  at("error-code").textContent = told.code;
  at("error-request").hidden = !told.requestId;
  at("error-request-id").textContent = told.requestId;
  again = retry;
  at("error-again").hidden = !retry || error.code === "unauthorized"; // the form tries again
  at("error").hidden = false;
  if (error.code === "unauthorized") askForKey();
  else at("error-title").focus();
}

function waiting(error, seconds) {
  tell(`${explain(error).title} Trying again in ${Math.ceil(seconds)} s.`);
}

function askForKey() {
  at("sign-in").hidden = false;
  at("key").focus();
}

async function signIn(event) {
  event.preventDefault();
  const body = new URLSearchParams({ key: at("key").value });
  at("key").value = "";
  try {
    await call("POST", "/session", { body });
  } catch (error) {
    if (error.code !== "unauthorized") return fail(error);
    at("key-wrong").hidden = false;
    return at("key").focus();
  }
  at("key-wrong").hidden = true;
  at("sign-in").hidden = true;
  const retry = again;
  hideError();
  tell("Signed in.");
  return retry?.();
}

async function signOut() {
  try {
    await call("DELETE", "/session");
  } catch (error) {
    return fail(error, signOut);
  }
  return location.reload();
}

async function start() {
  try {
    const [found, words] = await Promise.all([callJson("GET", "/info"), callJson("GET", "/page/words.json")]);
    [info, rules] = [found, new LabelRules(words)];
  } catch (error) {
    return fail(error, start);
  }
  hideError();
  showService();
  const place = new URLSearchParams(location.hash.slice(1));
  if (!ID.test(place.get("job") ?? "")) return undefined;
  night.jobId = place.get("job");
  night.uploadId = ID.test(place.get("upload") ?? "") ? place.get("upload") : null;
  return follow();
}

function showService() {
  const { limits, model, models } = info;
  at("limits").textContent = `At most ${limits.max_body_mb} MB.`;
  at("retention").textContent =
    `Uploads and results are deleted by themselves ${limits.retention_h} h after they were made, and at once when you delete them here.`;
  at("retention").hidden = false;
  at("model-line").textContent =
    `Model ${model.model_id}, weights ${model.weights_sha256.slice(0, 12)}, version ${info.code_version}.`;
  at("model").replaceChildren(
    ...models.map(({ name, model_id: id }) => make("option", { value: name, text: `${name} (${id})` })),
  );
  at("model").value = model.name;
  at("model-choice").hidden = models.length < 2;
  at("second-choice").hidden = !models.some((each) => each.second_dim !== null);
}

async function choose(file) {
  if (!file) return undefined;
  if (!rules) await start();
  if (!rules) return undefined;
  hideError();
  tell("Reading the header.");
  try {
    const recording = await CleanRecording.of(file, rules, at("keep-clock").checked);
    if (recording.size > info.limits.max_body_mb * 2 ** 20) throw new ServiceError("payload_too_large");
    night.recording = recording;
  } catch (error) {
    return fail(error, null, "Nothing was sent.");
  } finally {
    at("file").value = ""; // so that the same file can be chosen again
  }
  showCleaning(night.recording, rules);
  return show("clean");
}

function progressOf(upload) {
  const share = upload.offset / upload.recording.size;
  at("upload-progress").value = 100 * share;
  at("upload-text").textContent = `${bytesText(upload.offset)} of ${bytesText(upload.recording.size)}`;
  if (share < 1) tell(`${Math.floor(4 * share) * 25} % uploaded.`); // every quarter is said once
}

function paused(isPaused) {
  at("pause").hidden = isPaused;
  at("resume").hidden = !isPaused;
  at("upload-title").textContent = isPaused ? "Upload paused" : "Uploading";
}

async function upload() {
  night.upload ??= new Upload(night.recording, {
    partMb: info.limits.max_part_mb,
    onProgress: () => progressOf(night.upload),
    onWait: waiting,
  });
  show("upload");
  paused(false);
  at("pause").focus();
  try {
    await night.upload.run();
  } catch (error) {
    if (removing) return undefined;
    paused(true);
    if (error.name !== "AbortError") at("upload-title").textContent = "Upload interrupted";
    if (error.name === "AbortError") tell("Paused. What has arrived is kept.");
    return fail(error, upload);
  }
  night.uploadId = night.upload.id;
  return look();
}

async function look() {
  tell("Looking at the channels.");
  controller = new AbortController();
  const { signal } = controller;
  try {
    const ask = () => callJson("POST", "/v1/inspect", { upload_id: night.uploadId }, signal);
    const found = await patiently(ask, { signal, onWait: waiting });
    show("look");
    showInspection(found);
  } catch (error) {
    fail(error, look);
  }
}

async function embed() {
  at("embed").disabled = true;
  controller = new AbortController();
  const { signal } = controller;
  const chosen = info.models.find(({ name }) => name === at("model").value);
  const wanted = { upload_id: night.uploadId, second: at("second").checked && chosen.second_dim !== null };
  if (info.models.length > 1) wanted.model = chosen.name;
  try {
    hideError();
    const job = await patiently(() => callJson("POST", "/v1/jobs", wanted, signal), {
      signal,
      onWait: waiting,
    });
    night.jobId = job.id;
  } catch (error) {
    at("embed").disabled = false;
    return fail(error, embed);
  }
  history.replaceState(null, "", `#job=${night.jobId}&upload=${night.uploadId}`);
  return follow();
}

function showJob(job) {
  const bar = at("job-progress");
  const name = STAGES_OF_WORK[job.stage] ?? job.stage;
  const counts = job.total > 0 && job.stage !== "queued";
  if (counts) [bar.max, bar.value] = [job.total, job.done];
  else bar.removeAttribute("value");
  at("job-text").textContent = counts ? `${name}: ${job.done} of ${job.total}` : name;
  tell(`${name}.`);
}

async function follow() {
  at("job-title").textContent = "Embedding";
  at("job-delete").textContent = "Cancel and delete";
  at("job-work").hidden = false;
  show("job");
  controller = new AbortController();
  const { signal } = controller;
  let job;
  try {
    job = await followJob(night.jobId, { signal, onJob: showJob, onWait: waiting });
  } catch (error) {
    return fail(error, error.code === "job_not_found" ? restart : follow);
  }
  if (job.state !== "done") {
    at("job-title").textContent = "This night was not embedded";
    at("job-delete").textContent = "Delete the recording and the job";
    at("job-work").hidden = true;
    return fail(new ServiceError(job.error?.code ?? "cancelled"));
  }
  show("results");
  tell("Drawing.");
  const expires = new Date(job.expires).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  at("retention").textContent =
    `Unless you delete it before, this result is deleted by itself on ${expires}.`;
  try {
    await showResults(job, info, signal);
    tell("Done.");
  } catch (error) {
    fail(error, follow);
  }
  return undefined;
}

async function remove() {
  removing = true;
  controller.abort();
  night.upload?.stop();
  tell("Deleting.");
  let told;
  try {
    told = await deleteAll(night);
  } catch (error) {
    return fail(error, remove);
  } finally {
    removing = false;
  }
  forget();
  if (!told.length) told.push("There was nothing left to delete: it had expired.");
  told.push("Nothing of this night is left at the service. Files that you downloaded stay with you.");
  at("deleted-list").replaceChildren(...told.map((text) => make("li", { text })));
  return show("deleted");
}

function forget() {
  forgetUpload();
  Object.assign(night, { recording: null, upload: null, uploadId: null, jobId: null });
  history.replaceState(null, "", location.pathname);
  showService();
  for (const id of ["hypnogram", "overview", "map", "neighbors", "facts", "downloads"])
    at(id).replaceChildren();
}

function restart() {
  controller.abort();
  forget();
  show("choose");
}

function listen() {
  const drop = at("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    choose(event.dataTransfer.files[0]);
  });
  // a file dropped beside the field would be opened by the browser, and the page be gone
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  at("file").addEventListener("change", (event) => choose(event.target.files[0]));
  at("upload").addEventListener("click", upload);
  at("pause").addEventListener("click", () => night.upload.stop());
  at("resume").addEventListener("click", upload);
  at("embed").addEventListener("click", embed);
  at("error-again").addEventListener("click", () => {
    const retry = again;
    hideError();
    retry?.();
  });
  at("sign-in").addEventListener("submit", signIn);
  at("sign-out").addEventListener("click", signOut);
  at("sign-out").hidden = document.documentElement.dataset.keys !== "yes";
  for (const button of document.querySelectorAll("[data-delete]")) button.addEventListener("click", remove);
  for (const button of document.querySelectorAll("[data-restart]")) button.addEventListener("click", restart);
  window.addEventListener("beforeunload", (event) => {
    if (night.upload && !night.upload.done) event.preventDefault();
  });
}

listen();
show("choose", { focus: false });
start();
