// What happened and what to do about it, by the service's error codes, in plain words.

const NOT_TAKEN = "Choose another file, or check it with the program that wrote it.";
const OPERATOR = "Tell the operator of this service, with the request id below.";

/** code -> [what happened, what to do] */
const MESSAGES = {
  not_an_edf: [
    "This file is not an EDF or BDF recording.",
    "Export the night as EDF, EDF+, BDF or BDF+ and choose that file.",
  ],
  empty_body: ["This file is empty.", NOT_TAKEN],
  header_invalid: ["A field of the file's header is not valid.", NOT_TAKEN],
  truncated_recording: [
    "The file ends before its first whole data record, or within its header.",
    "It was probably not copied to its end. Copy or export it again.",
  ],
  unreadable: ["The recording could not be read.", NOT_TAKEN],
  file_unreadable: [
    "Your browser could not read the file.",
    "It may have been moved, changed or locked since you chose it. Choose it again.",
  ],
  discontinuous_recording: ["The data records overlap, run backwards or are mostly missing.", NOT_TAKEN],
  recording_too_short: [
    "The recording is shorter than one minute, the least that the model hears.",
    "Choose a longer recording.",
  ],
  recording_too_large: [
    "The recording is longer or larger than this service takes.",
    "Cut it into nights, or ask the operator to raise the limit.",
  ],
  channels_missing: [
    "No channel of this file is one of EEG, EOG, EMG, ECG, breathing or oxygen saturation.",
    "Look at the labels below: words that are not known to name signals were removed before the file was sent.",
  ],
  signal_unusable: [
    "No channel of this file carries a usable signal.",
    "Check whether the electrodes were connected.",
  ],
  annotation_invalid: ["The annotations could not be read.", NOT_TAKEN],
  unauthorized: [
    "This service wants a key, or your session has ended.",
    "Enter your key; your recording and what has been uploaded stay as they are.",
  ],
  cross_site_request: [
    "The browser did not say that this page sent the request.",
    "Open the page anew by its own address.",
  ],
  host_unknown: [
    "A service without keys answers to the name of its own machine alone.",
    "Open the page at 127.0.0.1 or localhost with the service's port, or ask the operator for an address with keys.",
  ],
  upload_not_found: [
    "The upload is no longer there: deleted, expired, or another key's.",
    "Choose the file again.",
  ],
  job_not_found: [
    "The result is no longer there: deleted, expired, or another key's.",
    "Choose the file again.",
  ],
  offset_conflict: [
    "The service holds another part of the file than this page thought.",
    "Press Resume: the page asks where to go on.",
  ],
  upload_busy: ["Another request still writes to this upload.", "Wait a little, then resume."],
  upload_stalled: ["The upload stopped coming.", "Check the network, then resume."],
  checksum_mismatch: ["A part arrived damaged.", "Resume: it is sent again."],
  part_too_large: ["A part was larger than the service takes.", OPERATOR],
  payload_too_large: [
    "The file is larger than this service takes.",
    "Cut it into nights, or ask the operator to raise the limit.",
  ],
  overloaded: [
    "The service has as much to do as it takes on.",
    "It is not lost: the page tries again by itself, or press Try again later.",
  ],
  quota_exceeded: [
    "The quota of your key is used up.",
    "Delete uploads and results that you no longer need, or try again later.",
  ],
  model_not_ready: [
    "The model is not there at the moment.",
    "It is usually back within a minute: try again.",
  ],
  model_unknown: ["The service no longer has this model.", "Open the page anew and choose another one."],
  weights_mismatch: [
    "The nights served here were embedded with other weights than this one.",
    "Distances between them would mean nothing, so none are shown.",
  ],
  no_cohort: ["No cohort is served here, so there are no nights to compare with.", ""],
  no_staging_probe: ["The model's bundle has no staging probe, so there is no hypnogram.", ""],
  no_overview: ["There is no overview of the channels for this result.", ""],
  storage_full: ["The service's disk is full.", OPERATOR],
  keys_unreadable: ["The service cannot read its keys.", OPERATOR],
  no_connection: [
    "The service does not answer.",
    "Check the network and whether the service runs, then try again. What has arrived is kept.",
  ],
  cancelled: ["The work was cancelled, because its upload was deleted.", "Choose the file again."],
  internal_error: ["The service failed.", OPERATOR],
};

/** What to tell of an error: title, advice, code and request id. */
export function explain(error) {
  const code = error.code ?? "internal_error";
  const known = MESSAGES[code] ?? ["The service refused the request.", OPERATOR];
  const wait = error.retryAfterS ? ` The service asks to wait ${error.retryAfterS} s.` : "";
  return { code, title: known[0], advice: known[1] + wait, requestId: error.requestId ?? "" };
}

/** Why a channel is used or not, by the reason code of /v1/inspect. */
export const REASONS = {
  used_as_recorded: "used as recorded",
  used_rereferenced: "used, minus the reference beside it",
  outranked: "not needed: a better channel of its kind is there",
  subtracted: "subtracted from another channel",
  rate_too_low: "sampled too slowly",
  rate_too_high: "sampled too fast",
  no_scale: "its header gives no scale",
  wrong_unit: "its unit is that of something else",
  unused: "not used",
  unknown_label: "label not understood",
  not_a_modality: "not one of the six kinds of signal",
};

export const DECISIONS = {
  used: "Used",
  spare: "Spare",
  reference: "Reference",
  ignored: "Left out",
  rejected: "Rejected",
};

export const STAGES_OF_WORK = {
  queued: "Waiting for a place",
  preprocessing: "Reading and filtering channels",
  encoding: "Embedding 30-s epochs",
  night: "Embedding the whole night",
};
