// OpenFeature's server SDK with its OFREP provider: each evaluation is a request of its own.
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';
import { answer } from './lines.mjs';

const client = OpenFeature.getClient();

answer({
  start: ({ url, headers }) =>
    OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, headers })),
  evaluate: ({ type, flag, otherwise, context }) =>
    client[`get${type}Details`](flag, otherwise, context),
});
