// OpenFeature's web SDK with its OFREP provider, and what a browser would give them around it.
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';
import { EventSource } from 'eventsource';
import { answer, tell } from './lines.mjs';

const stored = new Map();
globalThis.localStorage = {
  getItem: (key) => stored.get(key) ?? null,
  setItem: (key, value) => void stored.set(key, value),
  removeItem: (key) => void stored.delete(key),
};

async function fetchAndTell(resource, init) {
  const request = new Request(resource, init);
  const response = await fetch(request);
  const { pathname, searchParams } = new URL(request.url);
  tell('request', {
    path: pathname,
    query: Object.fromEntries(searchParams),
    ifNoneMatch: request.headers.get('If-None-Match'),
    lastEventId: request.headers.get('Last-Event-ID'),
    status: response.status,
    etag: response.headers.get('ETag'),
  });
  return response;
}

globalThis.EventSource = class extends EventSource {
  constructor(url) {
    super(url, { fetch: fetchAndTell });
  }
};

for (const event of Object.values(ProviderEvents)) {
  OpenFeature.addHandler(event, (details) => {
    tell(event, { flags: details?.flagsChanged ?? [], message: details?.message ?? null });
  });
}
const client = OpenFeature.getClient();

answer({
  async start({ url, context, ...options }) {
    const provider = new OFREPWebProvider({
      baseUrl: url,
      fetchImplementation: fetchAndTell,
      ...options,
    });
    await OpenFeature.setProviderAndWait(provider, context);
  },
  stop: () => OpenFeature.clearProviders(),
  context: ({ context }) => OpenFeature.setContext(context),
  evaluate: ({ type, flag, otherwise }) => client[`get${type}Details`](flag, otherwise),
  status: () => client.providerStatus,
});
