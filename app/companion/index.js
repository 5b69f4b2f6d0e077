// Clawmend inside the gateway: README.md says what it does, and what it never does.
const FIELDS = ["status", "endedAt", "runtimeMs", "abortedLastRun", "lastRunId", "lifecycleRunId"];
const CHAT_STATES = { done: "final", killed: "aborted", failed: "error", timeout: "error" };
const RECOVERING = [
  "abortedLastRun", "subagentRecovery", "mainRestartRecovery", "pendingFinalDelivery", "pendingDeliveryNotice",
  "initializationPending", "cronRunContinuation", "providerReview", "incognito",
];

class Wrong extends Error {}

/** Whether a run of this session is active: true, false, or null where this gateway is not built as we know it. */
function isActive(context, key, sessionId) {
  const same = (other) => typeof other === "string" && other.toLowerCase() === key.toLowerCase();
  const global = (name) => globalThis[Symbol.for(`openclaw.${name}`)];
  const chats = context?.chatAbortControllers;
  const lanes = global("commandQueueState")?.lanes;
  const { activeRuns, sessionIdsByKey } = global("embeddedRunState") ?? {};
  const { activeRunsByKey, activeKeysBySessionId } = global("replyRunRegistry") ?? {};
  const known = [chats, lanes, activeRuns, sessionIdsByKey, activeRunsByKey, activeKeysBySessionId];
  if (!known.every((each) => each instanceof Map)) return null;
  if ([...sessionIdsByKey.keys(), ...activeRunsByKey.keys()].some(same)) return true;
  if (activeRuns.has(sessionId) || activeKeysBySessionId.has(sessionId)) return true;
  for (const run of chats.values()) {
    if (typeof run?.sessionKey !== "string") return null;
    if (same(run.sessionKey) || (sessionId && run.sessionId === sessionId)) return true;
  }
  for (const [name, lane] of lanes) {
    if (!Number.isInteger(lane?.queue?.length) || !(lane.activeTaskIds instanceof Set)) return null;
    if (same(name.replace(/^session:/, "")) && lane.queue.length + lane.activeTaskIds.size > 0) return true;
  }
  return false;
}

/** A field by which OpenClaw says that this row is still its own to settle. */
function recovery(entry) {
  const says = (value) => Boolean(value) && !(typeof value === "object" && Object.keys(value).length === 0);
  if (entry.updatedAt === 0) return "updatedAt";
  const owned = (name) => RECOVERING.includes(name) || name.startsWith("restartRecovery");
  return Object.keys(entry).find((name) => owned(name) && says(entry[name]));
}

/** The fields of ours that are there: one that is absent stays absent. */
const fieldsOf = (entry) => Object.fromEntries(FIELDS.filter((n) => entry[n] !== undefined).map((n) => [n, entry[n]]));

/** The patch for one row, or why there is none. Nothing here waits: check and decision are one step of the gateway. */
function settled(entry, params) {
  if (entry.status !== "running") return { reason: "not-running" };
  if (entry.endedAt !== undefined) return { reason: "has-ended-at" };
  const owner = recovery(entry);
  if (owner) return { reason: "recovering", detail: owner };
  const { status, endedAt } = params;
  const runtimeMs = Math.max(0, endedAt - entry.startedAt);
  const patch = { status, endedAt, runtimeMs, abortedLastRun: status === "killed" };
  const run = entry.lifecycleRunId;
  return { patch: run === undefined ? patch : { ...patch, lastRunId: run, lifecycleRunId: undefined } };
}

function undone(entry, params) {
  const changed = params.fields.find(({ name, after }) => entry[name] !== after);
  if (changed) return { reason: "changed", detail: changed.name };
  return { patch: Object.fromEntries(params.fields.map(({ name, before }) => [name, before])) };
}

function check(params, method) {
  const { key, agentId, expectedSessionId, expectedStartedAt, status, endedAt, fields } = params;
  const text = (value) => typeof value === "string" && value.length > 0;
  if (![key, agentId, expectedSessionId].every(text)) throw new Wrong("key, agentId, expectedSessionId: text");
  if (!Number.isSafeInteger(expectedStartedAt)) throw new Wrong("expectedStartedAt: a time in ms");
  if (method === settled) {
    if (!Object.hasOwn(CHAT_STATES, status)) throw new Wrong("status: done, killed, failed or timeout");
    if (!Number.isSafeInteger(endedAt)) throw new Wrong("endedAt: a time in ms");
  } else if (!Array.isArray(fields) || fields.length === 0 || !fields.every((f) => FIELDS.includes(f?.name))) {
    throw new Wrong(`fields: a list of {name, before, after}; names: ${FIELDS.join(", ")}`);
  }
}

/** Tell all who watch of a row that is written; gives what was told. */
function tell(context, { key, agentId, runId }, entry) {
  const { sessionId, startedAt, updatedAt } = entry;
  const row = { ...fieldsOf(entry), sessionId, startedAt, updatedAt };
  const told = { sessions: false, chat: false };
  if (context.getSessionEventSubscriberConnIds && context.broadcastToConnIds) {
    const change = { sessionKey: key, reason: "clawmend", ts: Date.now(), ...row, hasActiveRun: false };
    const watching = context.getSessionEventSubscriberConnIds();
    context.broadcastToConnIds("sessions.changed", change, watching, { dropIfSlow: true, agentId });
    told.sessions = true;
  }
  const state = CHAT_STATES[entry.status];
  if (state && typeof runId === "string" && context.broadcast && !context.chatAbortControllers.has(runId)) {
    // the tab that sent the message turns its Stop to Send on this event only
    const why = { error: { errorMessage: `The turn ended as ${entry.status}; the gateway had missed it. (Clawmend)` } };
    const event = { runId, sessionKey: key, seq: (context.agentRunSeq?.get?.(runId) ?? 0) + 1, state, ...why[state] };
    context.broadcast("chat", event, { sessionKeys: [key], agentId });
    context.nodeSendToSession?.(key, "chat", event);
    told.chat = true;
  }
  return told;
}

export default {
  id: "clawmend",
  name: "Clawmend",
  register(api) {
    const { session } = api.runtime.agent;
    if (!session.patchSessionEntry && !session.updateSessionStoreEntry) return; // of no use here, and not to be found
    const store = (agentId) => session.resolveStorePath?.(api.runtime.config.current().session?.store, { agentId });
    const write = ({ agentId, key: sessionKey }, update) => {
      const one = { sessionKey, update };
      if (session.patchSessionEntry) return session.patchSessionEntry({ ...one, agentId, preserveActivity: true });
      return session.updateSessionStoreEntry({ ...one, storePath: store(agentId) });
    };
    const change = async ({ params, context }, method) => {
      check(params, method);
      let decision = { reason: "missing" };
      const written = await write(params, (entry) => {
        decision = { before: fieldsOf(entry) };
        const active = isActive(context, params.key, entry.sessionId);
        if (entry.sessionId !== params.expectedSessionId) decision.reason = "session-id";
        else if (entry.startedAt !== params.expectedStartedAt) decision.reason = "started-at";
        else if (active !== false) decision.reason = active ? "active-run" : "unknown-shape";
        else Object.assign(decision, method(entry, params));
        return decision.patch ?? null;
      });
      const { reason = null, detail, before, patch } = decision;
      if (!patch) return { applied: false, reason, detail, before };
      const after = fieldsOf(written);
      if (after.status !== patch.status) throw new Error("the store answers with another row than was written");
      const told = tell(context, params, written);
      return { applied: true, reason, before, after, told };
    };
    const live = ({ params, context }) => {
      const { agentId, sessions } = params;
      if (typeof agentId !== "string" || !Array.isArray(sessions)) throw new Wrong("agentId: text; sessions: a list");
      const of = (one) => (typeof one?.key === "string" ? isActive(context, one.key, one.sessionId) : null);
      return { store: store(agentId), active: sessions.map(of) };
    };
    const method = (name, scope, answer) => api.registerGatewayMethod(`clawmend.${name}`, async (call) => {
      try {
        call.respond(true, await answer(call));
      } catch (error) {
        const code = error instanceof Wrong ? "INVALID_REQUEST" : "CLAWMEND_FAILED";
        call.respond(false, undefined, { code, message: String(error?.message ?? error) });
      }
    }, { scope });
    method("live", "operator.read", live);
    method("settle", "operator.write", (call) => change(call, settled));
    method("undo", "operator.write", (call) => change(call, undone));
  },
};
