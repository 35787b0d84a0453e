// The benchmark's peer on Node: each line that a session's child prints, to all sockets of that session, with the
// official Socket.IO server.
//
// `node server.mjs AGENT` prints `listening PORT`, and ends with its stdin. A socket names its session in its auth; the
// first of a session starts `AGENT --plain`, the last ends it. The event `ask` is a line to the child, `line` one from
// it.

import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const BACKLOG = 4096; // a thousand clients connect at once

const agent = process.argv[2];
const sessions = new Map(); // name -> { child, members }

const http = createServer();
const io = new Server(http, { serveClient: false, httpCompression: false, maxHttpBufferSize: MESSAGE_BYTES_MAX });

io.on('connection', (socket) => {
    const name = socket.handshake.auth.session;
    socket.join(name);
    const session = sessions.get(name) ?? start(name);
    session.members += 1;
    socket.on('ask', (line) => session.child.stdin.write(`${line}\n`));
    socket.on('disconnect', () => leave(name, session));
    socket.emit('ready');
});

function start(name) {
    const child = spawn(agent, ['--plain'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const session = { child, members: 0 };
    sessions.set(name, session);
    child.stdin.on('error', () => {}); // the child has ended by itself
    relay(child.stdout, name);
    return session;
}

// By hand: the `readline` module takes an event for each line.
function relay(stdout, name) {
    let rest = '';
    stdout.setEncoding('utf8');
    stdout.on('data', (chunk) => {
        if (!chunk.includes('\n')) {
            rest += chunk; // a long line is not looked through again with each chunk
            return;
        }
        const lines = (rest + chunk).split('\n');
        rest = lines.pop();
        for (const line of lines) {
            io.to(name).emit('line', JSON.parse(line));
        }
    });
}

function leave(name, session) {
    session.members -= 1;
    if (session.members === 0) {
        sessions.delete(name);
        session.child.stdout.destroy(); // a later session of that name must not get what is still in the pipe
        session.child.kill('SIGKILL');
    }
}

// The children end with this process: it holds the other end of their stdin.
process.stdin.on('end', () => process.exit()).resume();

http.listen({ host: '127.0.0.1', port: 0, backlog: BACKLOG }, () => {
    console.log(`listening ${http.address().port}`);
});
