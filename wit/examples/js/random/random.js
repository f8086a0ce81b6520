// A random policy: each healthy endpoint is as likely as another.
import { log } from 'warpdrive:guest/log@0.1.0';
import { number } from 'warpdrive:guest/random@0.1.0';

let requestCount = 0;

export const loadBalancer = {
  configure(json) {
    log('info', 'random policy initialized');
    return { head: false, textMax: 0 };
  },

  select(ctx, endpoints) {
    // It would be dropped when garbage is collected, which may be long after this call.
    ctx[Symbol.dispose]();
    requestCount++;
    const healthy = [];
    endpoints.forEach((endpoint, index) => {
      if (endpoint.healthy) healthy.push(index);
    });
    // For up to 1,000 endpoints, the remainder favours none by more than 1 in 4 million.
    // QuickJS hands a number of 32 bits over with a sign.
    return healthy.length === 0 ? undefined : healthy[(number() >>> 0) % healthy.length];
  },
};

export const about = {
  name: () => 'wasm_random_js',
  version: () => '1.0.0',
  statistics: () => JSON.stringify({ requestCount }),
};
