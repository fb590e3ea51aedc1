//! What a Worker's entry is without anything of the gate's.

import { fetch } from "program";

export default { fetch };
