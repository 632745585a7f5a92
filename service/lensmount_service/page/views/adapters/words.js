/** What the server's short words about adapters mean. */

import { address } from "../../lib/route.js";

export const pathOf = (name) => `adapters/${encodeURIComponent(name)}`;
export const linkTo = (name, ...rest) => address("adapters", [name, ...rest]);
export const isPublic = (name) => name.startsWith("public/");

const TIERS = {
  hot: "in memory, with merged weights: fastest",
  merged: "in memory, with merged weights: fastest",
  memory: "in memory",
  file: "on disk: its first answer takes a little longer",
  remote: "in the remote store: its first answer takes longer",
};

/** Where the adapter is kept, in words. */
export const tierWords = (tier) => TIERS[tier] ?? tier;

/** Why an adapter cannot answer, as [badge, sentence]; null if it is ready. */
export function troubleOf({ status, backbone }) {
  if (status === "ready") return null;
  if (status === "backbone_mismatch") {
    return [`needs ${backbone.name}`, `It was made for another network (${backbone.name}). It answers on a server that runs that one.`];
  }
  if (status === "quarantined") {
    return ["set aside", "Its newest version failed several times in a row, so the server no longer computes it. An older version that works answers instead, if there is one."];
  }
  if (status === "untrusted") return ["not signed", "This server answers only with adapters that a trusted key has signed, and none has signed this one."];
  return [status, `The server says: ${status}.`];
}

/** "canary 2 gets 12.5 %, shadow 3" */
export const trialOf = ({ canary, shadow }) =>
  [canary && `canary ${canary.version} gets ${canary.percent} %`, shadow && `shadow ${shadow.version}`].filter(Boolean).join(", ");

const METHODS = { lora: "low-rank factors (LoRA)", norm: "normalisation layers", head: "the last layer alone", bitfit: "biases", composed: "what several adapters changed, put together" };
export const methodWords = (method) => method.split("+").map((each) => METHODS[each] ?? each).join(" and ");
