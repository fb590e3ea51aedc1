//! The least that a Worker in JavaScript can do, and the least that one can do with a bucket: `hello` in Rust, again.

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/hello") return new Response("Hello, world!");
    if (pathname.startsWith("/part/")) {
      const part = await env.MEDIA.get(pathname.slice(6), { range: { offset: 1000, length: 65536 } });
      return part ? new Response(part.body, { status: 206 }) : new Response("Not Found", { status: 404 });
    }
    const object = await env.MEDIA.get(pathname.slice(1));
    return object ? new Response(object.body) : new Response("Not Found", { status: 404 });
  },
};
