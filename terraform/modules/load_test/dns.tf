# A private zone, in which the certificate's name resolves to the load balancer. Outside this VPC the name resolves to another address
# or to none. The load test can so verify the name that API Gateway verifies.

resource "aws_route53_zone" "certificate" {
  #checkov:skip=CKV2_AWS_38:Private: resolved inside the VPC only.
  #checkov:skip=CKV2_AWS_39:Private: one name, resolved by load tests.
  count = var.certificate_name == null ? 0 : 1

  name    = var.certificate_name
  comment = "Load balancer of ${var.name}, for load tests in its VPC"

  vpc {
    vpc_id = var.vpc_id
  }
}

resource "aws_route53_record" "certificate" {
  count = var.certificate_name == null ? 0 : 1

  zone_id = aws_route53_zone.certificate[0].zone_id
  name    = var.certificate_name
  type    = "A"

  alias {
    name                   = var.alb.dns_name
    zone_id                = var.alb.zone_id
    evaluate_target_health = false
  }
}
