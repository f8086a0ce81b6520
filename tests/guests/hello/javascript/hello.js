// A component that says hello. StarlingMonkey, the engine in it, hands requests to it as a browser
// does to a service worker.
addEventListener('fetch', event => {
  const headers = { 'content-type': 'text/plain', 'content-length': '22' };
  event.respondWith(new Response('hello from JavaScript\n', { headers }));
});
