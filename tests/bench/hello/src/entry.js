//! What a Worker's entry is without anything of the gate's.

import { fetch } from "./index.js";

export default { fetch };
