/** The states that a job does not leave by itself. */
import type { JobState } from './store.ts';

export type FinishedState = 'SUCCESS' | 'FAILURE' | 'CANCELLED';

export function isFinished(state: JobState): state is FinishedState {
  return state === 'SUCCESS' || state === 'FAILURE' || state === 'CANCELLED';
}
