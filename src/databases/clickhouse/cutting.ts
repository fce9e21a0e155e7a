/**
 * Settings by which a server gives less than was asked for, or puts other rows behind it, and calls that a success: an
 * overflow mode "break" or "any" ends a query where a limit is reached, `limit` and `offset` apply to any query,
 * shards that are away, files that are not there and lines that cannot be read are passed over.
 */
const CUTTING =
  /^(?:\w+_overflow_mode(?:_\w+)?|extremes|limit|offset|skip_unavailable_shards|partial_result\w*|input_format_allow_errors_(?:num|ratio)|\w+_ignore_file_doesnt_exist)$/i;

export function isCutting(setting: string): boolean {
  return CUTTING.test(setting);
}

/** The value with which such a setting takes nothing away. */
export function harmless(setting: string): string {
  return /overflow_mode/i.test(setting) ? 'throw' : '0';
}
