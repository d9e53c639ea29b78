// The last step: everything that came of one night, each part on its own, so that one that fails
// leaves the others.

import { at, bytesText, clockText, durationText, make } from "./dom.js";
import { embeddingMaps } from "./maps.js";
import { explain } from "./messages.js";
import { call, callJson, callTensors } from "./service.js";
import { hypnogram, overview } from "./tracks.js";

const MODALITIES = ["EEG", "EOG", "EMG", "ECG", "RESP", "SPO2"];
const FILES = {
  "embeddings.arrow": "Embedding, Arrow: one row per 30-s epoch",
  "embeddings.npz": "Embedding, numpy archive",
  "embeddings.parquet": "Embedding, Parquet: one row per 30-s epoch",
  "embeddings.safetensors": "Embedding, safetensors",
  "hypnogram.tsv": "Hypnogram, table",
  "hypnogram.json": "Hypnogram, JSON",
  "overview.json": "Overview of the channels, JSON",
  "report.html": "Report, one page to print or keep",
};

/**
 * Show the results of a job that is done.
 * @param job as the service tells it
 * @param info of GET /info
 */
export async function showResults(job, info, signal) {
  const has = (name) => job.results.includes(name);
  const path = (name) => `/v1/jobs/${job.id}/${name}`;
  showDownloads(job, path);
  const [night, stages] = await Promise.all([
    attempt("map", () => callTensors(path("embeddings.safetensors?level=macro"), signal)),
    has("hypnogram.json")
      ? attempt("hypnogram", () => callJson("GET", path("hypnogram.json"), undefined, signal))
      : say("hypnogram", "no_staging_probe"),
    has("overview.json")
      ? attempt("overview", async () =>
          overview(at("overview"), await callJson("GET", path("overview.json"), undefined, signal)),
        )
      : say("overview", "no_overview"),
    showNeighbors(job, info, signal),
  ]);
  if (stages) hypnogram(at("hypnogram"), stages);
  if (!night) return;
  const made = JSON.parse(night.metadata["sleepmami.info"]);
  const valid = night.tensors.epoch_valid.data;
  const mark = embeddingMaps(at("map"), night.tensors.macro, valid, 30);
  showFacts(made, job);
  const numValid = valid.reduce((sum, value) => sum + value, 0);
  at("results-summary").textContent =
    `${durationText(made.num_epochs * 30)} in ${made.num_epochs} epochs of 30 s, ${numValid} of them with a usable signal. ` +
    (made.modalities_missing.length
      ? `Missing: ${made.modalities_missing.join(", ")}.`
      : "All six kinds of signal were there.");
  followEpoch(made.num_epochs, night.tensors.modality_valid, stages, mark);
}

async function attempt(id, work) {
  try {
    at(id).setAttribute("aria-busy", "true");
    return await work();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (!error.code) console.error(error);
    const { title, advice, code } = explain(error);
    at(id).replaceChildren(make("p", { class: "wrong", text: `${title} ${advice} (${code})` }));
    return null;
  } finally {
    at(id).removeAttribute("aria-busy");
  }
}

function say(id, code) {
  at(id).replaceChildren(make("p", { class: "soft", text: explain({ code }).title }));
  return null;
}

async function showNeighbors(job, info, signal) {
  if (info.cohort_recordings === null) return say("neighbors", "no_cohort");
  return attempt("neighbors", async () => {
    const found = await callJson("POST", "/v1/neighbors", { job_id: job.id, k: 8 }, signal);
    const rows = found.neighbors.map(({ recording_id: id, similarity }) => {
      const meter = make("meter", {
        min: -1,
        max: 1,
        value: similarity,
        "aria-label": `Similarity of ${id}`,
      });
      return make("li", {}, make("code", { text: id }), meter, make("span", { text: similarity.toFixed(3) }));
    });
    at("neighbors").replaceChildren(
      make("ol", { class: "nights" }, ...rows),
      make("p", {
        class: "soft small",
        text: `Cosine of the night vectors, 1 is the same; among ${found.num_recordings} nights of the cohort that is served here${found.exact ? "" : ", found by an index"}. Alike to this model, which is not to say alike in health.`,
      }),
    );
  });
}

function showFacts(made, job) {
  const channels = made.channels_used.map(
    ({ modality, derivation }) =>
      `${modality} (${derivation === "rereferenced" ? "re-referenced" : "as recorded"})`,
  );
  const facts = {
    Model: made.model_id,
    "Weights, SHA-256": made.weights_sha256,
    "Channels used": channels.join(", ") || "none",
    "Kinds missing": made.modalities_missing.join(", ") || "none",
    "Version, arithmetic": `${made.code_version}, ${made.precision}`,
    Made: new Date(job.created).toLocaleString("en-GB"),
  };
  at("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [
      make("dt", { text: name }),
      make("dd", { text: value }),
    ]),
  );
}

function showDownloads(job, path) {
  const items = Object.entries(FILES)
    .filter(([name]) => job.results.includes(name))
    .map(([name, text]) => {
      const link = make("a", { href: path(name), text });
      if (name === "report.html") Object.assign(link, { target: "_blank", rel: "noopener" });
      else link.setAttribute("download", name);
      return make("li", {}, link);
    });
  at("downloads").replaceChildren(...items);
}

function followEpoch(numEpochs, modalityValid, stages, mark) {
  const slider = at("epoch");
  slider.max = numEpochs - 1;
  slider.value = 0;
  const width = modalityValid.shape[1];
  slider.oninput = () => {
    const epoch = Number(slider.value);
    for (const plot of document.querySelectorAll(".plot"))
      plot.style.setProperty("--at", (epoch + 0.5) / numEpochs);
    mark(epoch);
    const heard = MODALITIES.filter((_, place) => modalityValid.data[epoch * width + place]);
    const parts = [`${epoch + 1} of ${numEpochs}, ${clockText(epoch * 30)} from the start`];
    if (stages) {
      const stage = stages.stages[epoch];
      parts.push(
        stage === "unknown"
          ? "stage unknown"
          : `${stage === "WAKE" ? "Wake" : stage}, confidence ${stages.confidence[epoch].toFixed(2)}`,
      );
    }
    parts.push(heard.length ? `heard ${heard.join(", ")}` : "no usable signal");
    at("epoch-text").textContent = `${parts.join("; ")}.`;
    slider.setAttribute("aria-valuetext", parts.join("; "));
  };
  slider.oninput();
}

/** Delete a job and an upload, as far as they are there; what was deleted, in words. */
export async function deleteAll({ jobId, upload, uploadId }) {
  const told = [];
  if (jobId && (await gone(`/v1/jobs/${jobId}`)))
    told.push("The job, with all results that it had.");
  const path = upload?.path ?? (uploadId ? `/v1/uploads/${uploadId}` : null);
  const size = upload?.offset ? ` (${bytesText(upload.offset)} that had arrived)` : "";
  if (path && (await gone(path))) told.push(`The uploaded recording${size}.`);
  return told;
}

async function gone(path) {
  try {
    await call("DELETE", path, { headers: { "tus-resumable": "1.0.0" } });
    return true;
  } catch (error) {
    if (["upload_not_found", "job_not_found"].includes(error.code)) return false; // expired before
    throw error;
  }
}
