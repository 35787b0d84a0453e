// What the server says, as far as the page looks at it: the README's section "The wire".

export interface Summary {
    sessionId: string;
    title: string | null;
    state: "stopped" | "starting" | "idle" | "busy" | "waiting" | "stopping" | "failed";
    source: "here" | "terminal";
    agent: string;
    agentVersion: string | null;
    mode: "shared" | "isolated";
    cwd: string;
    model: string | null;
    permissionMode: string | null;
    effort: string | null;
    lastActivity: number;
    running: string | null;
    queue: { promptId: string; text: string }[];
    openQuestions: number;
    turns: number;
    costUsd: number;
    contextTokens: number | null;
    contextWindow: number | null;
    rateLimit: { status: string; type?: string; resetsAt?: number; utilization?: number } | null;
    tasks: { taskId: string; type?: string; description: string }[];
    todos: { id?: string; text: string; status: string }[];
    lastWords: string | null;
    deleted?: boolean;
    failure?: { code: string; message: string; stderr: string };
    retrying?: { code: string; attempt: number; attemptsMax: number; until: number };
}

export interface Registered {
    sessionId: string;
    mode: "shared" | "isolated";
    resumed: boolean;
    requested?: string;
    logId: string;
    seq: number;
    part: number;
    session: Summary;
}

/** An event of a session's history. */
export interface Item {
    seq: number;
    time: number;
    name: string;
    data: any;
}

/** One that is too large for the socket has no more than its names, and `truncated`. */
export interface Question {
    sessionId: string;
    seq: number;
    requestId: string;
    toolName: string;
    input: { [name: string]: any };
    description?: string;
    reason?: string;
    suggestions: Suggestion[] | null;
    request: { [name: string]: any };
}

export interface Suggestion {
    type: string;
    rules?: { toolName: string; ruleContent?: string }[];
    behavior?: string;
    mode?: string;
    directories?: string[];
    destination?: string;
}

export interface Command {
    name: string;
    description?: string;
    argumentHint?: string | string[];
}

export interface Model {
    value: string;
    displayName?: string;
    description?: string;
    supportedEffortLevels?: string[];
}

/** A prompt's file: uploaded, or sent along. */
export type Sent = { fileId: string } | { name: string; mediaType: string; data: ArrayBuffer };
