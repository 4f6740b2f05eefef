output "alarm_arns" {
  description = "ARN of each alarm, by what it is about."
  value = merge(
    { for name, alarm in aws_cloudwatch_metric_alarm.dead_letter : "dead-letter-${name}" => alarm.arn },
    {
      fanout-failures    = aws_cloudwatch_metric_alarm.fanout_failures.arn
      invalidator-errors = aws_cloudwatch_metric_alarm.invalidator_errors.arn
      stream-lag         = aws_cloudwatch_metric_alarm.stream_lag.arn
    },
  )
}
