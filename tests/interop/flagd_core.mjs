// flagd's core for JavaScript, asked by tests/flags/test_flagd.py which variants it serves.
import { FlagdCore } from '@openfeature/flagd-core';
import { answer } from './lines.mjs';

const quiet = { error() {}, warn() {}, info() {}, debug() {} };

answer({
  variants({ document, flag, contexts }) {
    const core = new FlagdCore(undefined, quiet);
    core.setConfigurations(JSON.stringify(document));
    return contexts.map((context) => core.resolveStringEvaluation(flag, '', context).variant ?? null);
  },
});
