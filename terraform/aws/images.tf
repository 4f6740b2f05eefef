# A deployment applies this file first, and then pushes the images and the functions' zips.
module "images" {
  source = "../modules/images"

  name          = local.name
  account_id    = local.account_id
  region        = var.region
  repositories  = toset(concat(["config-service", "order-service"], var.load_test_runner ? ["loadtest"] : []))
  force_destroy = !var.deletion_protection
}
