// Speaks JSON lines with tests/servers/program.py: answers questions, tells of events, ends with its input.
import { createInterface } from 'node:readline';

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

export function tell(event, facts = {}) {
  say({ event, ...facts });
}

/** Answer each `{id, ask, ...}` with what the action of that name returns, in the order asked. */
export function answer(actions) {
  let turn = Promise.resolve();
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const { id, ask, ...facts } = JSON.parse(line);
    turn = turn.then(async () => {
      try {
        say({ id, answer: (await actions[ask](facts)) ?? null });
      } catch (error) {
        say({ id, error: `${error.stack}` });
      }
    });
  });
  lines.on('close', () => process.exit());
}
