//! Signs with JavaScript's signers for CloudFront, for tests: `node tests/tools/sign.mjs <order in JSON>`
//!
//! The order names what to open, when and to whom, and a key of each kind. On stdout there is a JSON array of all that
//! each signer can make of it: by either key, either hash, in the URL and as cookies.

import { readFile } from "node:fs/promises";

import { getSignedCookies, getSignedUrl } from "@aws-sdk/cloudfront-signer";
import old from "aws-cloudfront-sign";

import { report } from "./project.mjs";

async function main() {
  const order = JSON.parse(process.argv[2]);
  const tickets = [];
  for (const [key, { id, file }] of Object.entries(order.keys)) {
    const privateKey = await readFile(file, "utf8");
    for (const algorithm of ["SHA1", "SHA256"]) {
      for (const [form, what] of Object.entries(forms(order))) {
        const input = { ...what, keyPairId: id, privateKey, algorithm };
        const name = `@aws-sdk/cloudfront-signer, ${form}, ${key}, ${algorithm}`;
        tickets.push({ name, url: getSignedUrl(input) }, { name, cookies: getSignedCookies(input) });
      }
    }
    // It knows no other hash, no other form and no start.
    const options = {
      keypairId: id,
      privateKeyString: privateKey,
      expireTime: order.expires * 1000,
      ipRange: order.address,
    };
    const name = `aws-cloudfront-sign, ${key}`;
    tickets.push({ name, url: old.getSignedUrl(order.url, options) });
    tickets.push({ name, cookies: old.getSignedCookies(order.pattern, options) });
  }
  process.stdout.write(JSON.stringify(tickets));
}

function forms({ url, pattern, expires, starts, address }) {
  const Condition = { DateLessThan: { "AWS:EpochTime": expires } };
  return {
    canned: { url, dateLessThan: expires * 1000 },
    conditions: { url, dateLessThan: expires * 1000, dateGreaterThan: starts * 1000, ipAddress: address },
    // Signed and sent with all its white space.
    policy: { url, policy: JSON.stringify({ Statement: [{ Resource: pattern, Condition }] }, null, 2) },
  };
}

process.exitCode = await main().then(() => 0, report);
